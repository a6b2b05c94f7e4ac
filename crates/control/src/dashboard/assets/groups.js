// Groups, and the servers in them.
import { mayAct } from "./api.js";
import { actions, changeServer } from "./acts.js";
import { stateOf } from "./attention.js";
import { button, el, fill, swap, table } from "./dom.js";
import { badge, count, duration, hue, moment, rate, share, span } from "./format.js";
import { now, on } from "./live.js";
import { address, change, place } from "./place.js";

const ORDER = ["down", "failing", "degraded", "healthy", "gone"];
const rank = (group) => (ORDER.indexOf(stateOf(group)) + 5) % 5;

function settings(params) {
  return Object.entries(params).map(([name, value]) => (value === true ? name : `${name}=${value}`)).join(" ");
}

function checks(server) {
  const last = (server.checks ?? []).map((one) => `${one.check}: ${one.last ? one.last.reason : "not asked yet"}`).join("; ");
  const passive = server.failed ? `${server.failed} workers skip it` : "";
  return [last, passive].filter(Boolean).join("; ");
}

function acts(group, server) {
  const label = (word) => ({ class: "small", "aria-label": `${word} ${server.server} of ${group.name}`, "data-focus": `${word} ${group.name} ${server.server}` });
  const act = (word, what) => button(`${word}…`, () => changeServer(group.name, server.server, what), label(word));
  const isOut = server.params.drain || server.params.down;
  return actions(!isOut && act("Drain", "drain"), !server.params.down && act("Down", "down"), isOut && act("Up", "up"),
    server.said && server.source !== "order" && act("Reset", "reset"));
}

function servers(group, sorting) {
  const traffic = (server) => server.traffic ?? { per_second: 0, errors: 0, requests: 0, response: {} };
  const columns = [
    { id: "server", label: "Server", kind: "key", sort: (row) => row.server, of: (row) => row.server },
    { id: "state", label: "State", sort: (row) => row.state, of: (row) => [badge(row.state), row.since_ms && el("small", null, " since ", moment(row.since_ms))] },
    { id: "checks", label: "Checks", kind: "why", of: (row) => checks(row) },
    { id: "params", label: "Parameters", of: (row) => [settings(row.params), row.said && el("small", null, ` ${row.said.says}: ${row.said.actor}, `, moment(row.said.time_ms), row.said.reason ? `, ${row.said.reason}` : "")] },
    { id: "in_flight", label: "In flight", kind: "number", sort: (row) => row.in_flight, of: (row) => count(row.in_flight) },
    { id: "rate", label: "Requests/s", kind: "number", sort: (row) => traffic(row).per_second, of: (row) => rate(traffic(row).per_second) },
    { id: "errors", label: "Errors", kind: "number", sort: (row) => traffic(row).errors, of: (row) => share(traffic(row).errors, traffic(row).requests) },
    { id: "p50", label: "p50", kind: "number", sort: (row) => traffic(row).response.p50_us ?? 0, of: (row) => duration(traffic(row).response.p50_us) },
    { id: "p99", label: "p99", kind: "number", sort: (row) => traffic(row).response.p99_us ?? 0, of: (row) => duration(traffic(row).response.p99_us) },
    ...(mayAct() ? [{ id: "acts", label: "Acts", kind: "doing", of: (row) => acts(group, row) }] : []),
  ];
  return table({ caption: `Servers of ${group.name}`, columns, rows: group.servers, sorting, key: (row) => `is-${row.state}`,
    onsort: (next) => change({ sort: `${next.by}${next.down ? ".down" : ""}` }), empty: "It has no servers." });
}

function section(group, sorting) {
  const state = stateOf(group);
  const traffic = group.traffic;
  const figures = traffic && [
    ["Requests/s", rate(traffic.per_second)], ["Errors", share(traffic.errors, traffic.requests)], ["In flight", count(traffic.in_flight)],
    ["p50", duration(traffic.response.p50_us)], ["p90", duration(traffic.response.p90_us)], ["p99", duration(traffic.response.p99_us)],
  ];
  const id = `group-${group.name}`;
  return el("section", { class: `group is-${state}`, "aria-labelledby": id },
    el("div", { class: "title" },
      el("h2", { id }, el("span", { class: `dot hue${hue(group.name)}`, "aria-hidden": "true" }), el("a", { href: address("groups", { group: group.name }), "data-focus": `group ${group.name}` }, group.name), " ", badge(state)),
      figures && el("dl", { class: "figures" }, figures.map(([label, value]) => el("div", null, el("dt", null, label), el("dd", null, value))))),
    el("p", { class: "quiet" }, [
      group.state === "gone" ? "the configuration has it no longer" : group.source === "order" ? "made by an order" : "", group.like ? `like ${group.like}` : "",
      group.used_by.length ? `used by ${group.used_by.join(", ")}` : "nothing leads to it",
      ...group.sources?.map((one) => `${one.lookup}: ${one.servers} servers${one.failure ? `, ${one.failure}` : ""}${one.age_ms !== undefined ? `, seen ${span(one.age_ms)} ago` : ""}`) ?? [],
      group.pinned ? `pinned by ${group.pinned.actor}` : "",
    ].filter(Boolean).join("; ")),
    servers(group, sorting),
    group.removed?.length > 0 && el("p", { class: "quiet" }, "Removed: ", group.removed.map((one) => `${one.server} by ${one.actor}`).join(", ")),
    group.dormant?.length > 0 && el("p", { class: "quiet" }, "Without effect: ", group.dormant.map((one) => `${one.server} ${one.says} by ${one.actor}`).join(", ")));
}

/** Shows the view. */
export function show() {
  const { view, parameters } = place();
  if (view !== "groups") return;
  const box = document.getElementById("view");
  if (!document.getElementById("groups")) {
    swap(box, el("h1", { class: "unseen" }, "Groups"),
      el("form", { class: "filter", role: "search", onsubmit: (event) => event.preventDefault() },
        el("input", { type: "search", name: "part", value: parameters.part ?? parameters.group ?? "", "aria-label": "Filter groups and servers", placeholder: "filter: part of a group's or server's name",
          oninput: (event) => change({ part: event.target.value, group: undefined }) }),
        el("select", { name: "state", "aria-label": "Only groups that are", onchange: (event) => change({ state: event.target.value }, true) },
          el("option", { value: "" }, "in every state"), ORDER.map((state) => el("option", { value: state, selected: state === parameters.state }, state)))),
      el("div", { id: "groups" }));
  }
  const wanted = (group) => {
    const text = parameters.part?.toLowerCase();
    const fits = parameters.group ? group.name === parameters.group
      : !text || group.name.toLowerCase().includes(text) || group.servers.some((server) => server.server.toLowerCase().includes(text));
    return fits && (!parameters.state || stateOf(group) === parameters.state);
  };
  const [by, down] = (parameters.sort ?? "").split(".");
  const shown = now.groups.filter(wanted).sort((a, b) => rank(a) - rank(b));
  fill(document.getElementById("groups"), shown.length ? shown.map((group) => section(group, { by, down: down === "down" }))
    : el("p", { class: "empty" }, now.groups.length ? "No group fits the filter." : "The configuration has no group."));
}

export function enter() {
  const { view, parameters } = place();
  if (view !== "groups") return;
  const typed = document.querySelector("#view input[name=part]");
  if (typed && document.activeElement !== typed) typed.value = parameters.part ?? parameters.group ?? "";
  show();
}

on("groups", show);
