// What needs someone now: groups that fail, commits that wait, holds, drains, stores that cannot write.
import { mayAct } from "./api.js";
import { confirm, release, undo } from "./acts.js";
import { button, el, fill } from "./dom.js";
import { clock, count, keyName, share, span } from "./format.js";
import { now } from "./live.js";
import { address } from "./place.js";

/** Enough requests to speak of a share of errors, and the share that is a failure. */
const ENOUGH = 20;
const FAILING = 0.05;

/** Returns the state of a group with what its traffic says: a group may be up and answer errors. */
export function stateOf(group) {
  const traffic = group.traffic;
  const fails = traffic && traffic.requests >= ENOUGH && traffic.errors / traffic.requests >= FAILING;
  return group.state === "healthy" && fails ? "failing" : group.state;
}

const isAlarm = (group) => group.servers.length > 0 && ["down", "failing"].includes(stateOf(group)) ;

function alarm(group) {
  const up = group.servers.filter((server) => server.state === "up").length;
  const traffic = group.traffic;
  const errors = traffic?.errors ? `${share(traffic.errors, traffic.requests)} errors` : "";
  return el("a", { class: "card alarm", href: address("groups", { group: group.name }) },
    el("strong", null, `${group.name} is ${stateOf(group)}`),
    el("span", null, [`${up} of ${group.servers.length} servers up`, errors].filter(Boolean).join(", ")));
}

function warning(group) {
  const out = group.servers.filter((server) => !["up"].includes(server.state));
  return el("a", { class: "card warn", href: address("groups", { group: group.name }) },
    el("strong", null, `${group.name} is degraded`), el("span", null, out.map((server) => `${server.server} is ${server.state}`).join(", ")));
}

function pending(at, one) {
  const left = one.left_ms - (performance.now() - now.readAt);
  const text = one.overdue ? `not confirmed since ${clock(one.overdue.since_ms)}: it stays, because the other side fails` : "reverts in ";
  return el("div", { class: `card ${one.overdue ? "alarm" : "warn"}` },
    el("strong", null, `${at.name} revision ${one.revision}`),
    el("span", null, text, !one.overdue && el("span", { class: "countdown", "data-ends": String(performance.now() + left) }, span(Math.max(0, left)))),
    one.overdue && el("ul", null, one.overdue.answers.map((line) => el("li", null, line))),
    mayAct() && el("span", { class: "acts" },
      button("Confirm…", () => confirm(at.name, one.revision), { "data-focus": `confirm ${at.name} ${one.revision}` }),
      button("Undo…", () => undo(at.name, { commit: one.revision }), { "data-focus": `undo pending ${at.name} ${one.revision}` })));
}

function held(at, one) {
  const words = { held: "is held", refusing: "gets 503: its hold is over", releasing: "is being released", released: "was released" };
  return el("div", { class: `card ${one.state === "refusing" ? "alarm" : "warn"}` },
    el("strong", null, `${keyName(one.key)} ${words[one.state]}`),
    el("span", null, `${count(one.waiting)} waiting, ${count(one.rejected)} got 503; since ${clock(one.since_ms)} by ${one.actor}${one.reason ? `: ${one.reason}` : ""}`),
    one.until_ms && one.state === "held" && el("span", null, `ends at ${clock(one.until_ms)}: ${one.then === "release" ? "they go on" : "they get 503"}`),
    mayAct() && ["held", "refusing"].includes(one.state) && !one.of_order &&
      el("span", { class: "acts" }, button("Release…", () => release(at.name, one.key), { "data-focus": `release ${at.name} ${one.key}` })));
}

function draining(at, one) {
  const { in_flight: requests, streams, oldest } = one.drain;
  return el("div", { class: "card" }, el("strong", null, `${at.name} revision ${one.revision} drains`),
    el("span", null, `old side: ${count(requests)} requests, ${count(streams)} streams${oldest ? `; oldest ${oldest.request}, ${span(oldest.age_ms)}` : ""}`));
}

let before = "";

/** Shows it all. */
export function show() {
  const alarms = now.groups.filter(isAlarm);
  const stores = [...now.switches, { name: "groups", store_fault: now.groupsFault }];
  const faults = stores.filter((at) => at.store_fault).map((at) => el("div", { class: "card alarm" },
    el("strong", null, `${at.name}: ${at.store_fault.text}`), el("span", null, at.store_fault.remedy)));
  const cards = [
    ...alarms.map(alarm), ...faults,
    ...now.switches.flatMap((at) => at.pending.map((one) => pending(at, one))),
    ...now.switches.flatMap((at) => at.holds.map((one) => held(at, one))),
    ...now.groups.filter((group) => stateOf(group) === "degraded").map(warning),
    ...now.switches.flatMap((at) => at.draining.map((one) => draining(at, one))),
  ];
  const isBad = alarms.length > 0 || faults.length > 0;
  document.documentElement.classList.toggle("alarmed", isBad);
  document.title = `${isBad ? "■ " : cards.length ? "▲ " : ""}pointsman`;
  fill(document.getElementById("attention"), cards);
  // Screen readers hear of a change, and not of each figure in it.
  const words = alarms.map((group) => `${group.name} is ${stateOf(group)}`).join(", ") || (cards.length ? "" : "all is well");
  if (words !== before) document.getElementById("alarm-said").textContent = words;
  before = words;
}

/** Counts down, each second. */
export function countDown() {
  for (const one of document.querySelectorAll(".countdown")) {
    one.textContent = span(Math.max(0, Number(one.dataset.ends) - performance.now()));
  }
}
