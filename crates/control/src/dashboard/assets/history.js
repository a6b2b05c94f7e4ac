// The history of a switch: each commit, who made it and why; each can be undone.
import { get, mayAct, part } from "./api.js";
import { actions, undo } from "./acts.js";
import { refusal } from "./dialog.js";
import { button, el, fill, table } from "./dom.js";
import { keyName, moment, routeText } from "./format.js";
import { now, on, switchNamed } from "./live.js";
import { address, place } from "./place.js";

const PAGE = 50;
const CHANGES = 5;
let page = null;
let fault = null;
let asked = "";

async function read(name, parameters) {
  const question = JSON.stringify([name, parameters.before, parameters.key]);
  asked = question;
  try {
    const found = await get(`v1/switches/${part(name)}/history`, { before: parameters.before, [name === "groups" ? "group" : "key"]: parameters.key, limit: PAGE });
    if (asked !== question) return;
    [page, fault] = [found, null];
  } catch (problem) {
    if (asked !== question) return;
    [page, fault] = [null, problem];
  }
  show();
}

/** The first commit also notes what the configuration has for a default: that is no change. */
const isFirstDefault = (one) => one.subject.startsWith("default") && (one.from === null || one.from === undefined);

/** What a commit changed, in lines. */
export function changesOf(commit, limit) {
  const route = (text) => (text === null || text === undefined ? "default" : routeText(text));
  const lines = [
    ...commit.changes.map((one) => `${keyName(one.key)}: ${route(one.from)} → ${route(one.to)}`),
    ...(commit.subjects ?? []).filter((one) => !isFirstDefault(one) && one.subject !== "forgotten").map((one) => one.text ?? `${one.subject}${one.name ? ` ${one.name}` : ""}: ${one.from ?? "–"} → ${one.to ?? "–"}`),
  ];
  const more = lines.length - limit;
  return [...lines.slice(0, limit), ...(more > 0 ? [`and ${more} more`] : [])];
}

/** Returns the switch whose history is shown. That of the groups has no table of keys. */
const nameOf = (parameters) => (parameters.switch === "groups" ? "groups" : switchNamed(parameters.switch)?.name);

export function show() {
  const { view, parameters } = place();
  if (view !== "history") return;
  const name = nameOf(parameters);
  const box = document.getElementById("view");
  const tabs = el("nav", { class: "tabs", "aria-label": "Histories" }, [...now.switches.map((one) => one.name), "groups"].map((one) =>
    el("a", { href: address("history", { switch: one }), "aria-current": one === name && "true", "data-focus": `history ${one}` }, one)));
  if (fault) return fill(box, tabs, refusal(fault));
  if (!page || page.switch !== name) return fill(box, tabs, el("p", { class: "empty" }, "reading…"));
  const columns = [
    { id: "revision", label: "Revision", kind: "number", of: (row) => String(row.revision) },
    { id: "when", label: "When", kind: "when", of: (row) => moment(row.time_ms) },
    { id: "who", label: "Who", of: (row) => row.actor },
    { id: "what", label: "What", kind: "why", of: (row) => [row.kind !== "set" && el("span", { class: "badge quiet" }, row.of ? `${row.kind} of ${row.of}` : row.kind), row.forced && el("span", { class: "badge warn" }, "forced"),
      el("ul", { class: "plain" }, changesOf(row, CHANGES).map((line) => el("li", null, line)))] },
    { id: "why", label: "Why", kind: "why", of: (row) => row.reason ?? "" },
    ...(mayAct() ? [{ id: "acts", label: "Acts", kind: "doing", of: (row) => row.changes.length + (row.subjects?.length ?? 0) > 0 &&
      actions(button("Undo…", () => undo(name, { commit: row.revision }), { class: "small", "data-of": name, "aria-label": `Undo revision ${row.revision}`, "data-focus": `undo commit ${row.revision}` })) }] : []),
  ];
  fill(box, el("h1", { class: "unseen" }, `History of ${name}`), tabs,
    table({ caption: `History of ${name}`, columns, rows: page.commits, empty: "Nothing was changed yet." }),
    el("div", { class: "row pages" },
      parameters.before !== undefined && el("a", { href: address("history", { ...parameters, before: undefined }) }, "Newest"),
      page.next !== undefined && el("a", { href: address("history", { ...parameters, before: page.next }) }, "Older")));
}

export function enter() {
  const { view, parameters } = place();
  if (view !== "history") return;
  show();
  const name = nameOf(parameters);
  if (name) read(name, parameters);
}

let seen = "";
on("switches", () => {
  const { view, parameters } = place();
  if (view !== "history") return;
  const revisions = now.switches.map((one) => one.revision).join(" ");
  if (revisions !== seen) {
    seen = revisions;
    enter();
  }
});
on("event", (event) => { if (event.switch === "groups" && event.event === "committed") enter(); });
