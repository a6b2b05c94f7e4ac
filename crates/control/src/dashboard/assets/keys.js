// The routes: switches, and the keys of one.
import { get, mayAct, part } from "./api.js";
import { actions, hold, release, resetKey, routeKey, undo } from "./acts.js";
import { button, el, fill, swap, table } from "./dom.js";
import { refusal } from "./dialog.js";
import { count, hue, keyName, moment, routeBar } from "./format.js";
import { now, on, switchNamed } from "./live.js";
import { address, change, place } from "./place.js";

const PAGE = 100;
let page = null;
let asked = "";
let fault = null;
let commits = new Map();

/** Reads the keys that the address names. Questions that were overtaken are not shown. */
async function read(parameters) {
  const at = switchNamed(parameters.switch);
  if (!at) return;
  const query = { contains: parameters.contains, target: parameters.target, after: parameters.after, limit: parameters.rows ?? PAGE, commits: true };
  const question = JSON.stringify([at.name, query]);
  asked = question;
  try {
    const found = await get(`v1/switches/${part(at.name)}/keys`, query);
    if (asked !== question) return;
    page = found;
    fault = null;
    await readDefault(at);
  } catch (problem) {
    if (asked !== question) return;
    fault = problem;
  }
  show();
}

/** Who set the default is known if the table has one of its own. */
async function readDefault(at) {
  const revision = at.default_revision;
  if (!revision || commits.has(`${at.name} ${revision}`)) return;
  const found = await get(`v1/switches/${part(at.name)}/history`, { before: revision + 1, limit: 1 });
  commits.set(`${at.name} ${revision}`, found.commits[0]);
}

function switches(at, parameters) {
  return el("nav", { class: "tabs", "aria-label": "Switches" }, now.switches.map((one) => el("a", {
    href: address("routes", { switch: one.name }), "aria-current": one.name === at.name && "true", "data-focus": `switch ${one.name}`,
  }, one.name, el("small", null, ` ${count(one.keys)}`))));
}

function head(at) {
  const set = commits.get(`${at.name} ${at.default_revision}`);
  return el("div", { class: "facts" },
    el("dl", null,
      el("div", null, el("dt", null, "Default"), el("dd", null, routeBar(at.default),
        set?.kind === "default" ? el("small", null, ` ${set.actor}, `, moment(set.time_ms), set.reason ? `: ${set.reason}` : "") : el("small", null, " of the configuration"))),
      el("div", null, el("dt", null, "Targets"), el("dd", null, at.targets.map((target) => el("a", { class: "target", href: address("groups", { group: target }) },
        el("span", { class: `dot hue${hue(target)}`, "aria-hidden": "true" }), target)))),
      el("div", null, el("dt", null, "Keys"), el("dd", null, `${count(at.keys)} of at most ${count(at.max_keys)} (${at.keys_are === "host" ? "hosts" : "text"})`)),
      el("div", null, el("dt", null, "Revision"), el("dd", null, el("a", { href: address("history", { switch: at.name }) }, String(at.revision))))),
    mayAct() && actions(
      button("Route a key…", () => routeKey(at), { class: "main", name: "route", "data-of": `${at.name} ${at.default} ${at.targets.join(" ")}`, "data-focus": "route" }),
      button("Hold a key…", () => hold(at), { name: "hold", "data-of": at.name, "data-focus": "hold" })));
}

let typing;
function filter(at, parameters) {
  const contains = el("input", { type: "search", value: parameters.contains ?? "", "aria-label": "Filter keys", placeholder: "filter: part of a key", name: "contains", "data-focus": "contains",
    oninput: (event) => {
      clearTimeout(typing);
      typing = setTimeout(() => change({ contains: event.target.value, after: undefined }), 200);
    } });
  const target = el("select", { "aria-label": "Only keys that lead to", name: "target", "data-focus": "target", onchange: (event) => change({ target: event.target.value, after: undefined }, true) },
    el("option", { value: "" }, "every target"), at.targets.map((one) => el("option", { value: one, selected: one === parameters.target }, one)));
  const rows = el("select", { "aria-label": "Keys on a page", name: "rows", "data-focus": "rows", onchange: (event) => change({ rows: event.target.value, after: undefined }, true) },
    [50, 100, 500, 1000].map((number) => el("option", { value: number, selected: String(number) === String(parameters.rows ?? PAGE) }, `${number} a page`)));
  return el("form", { class: "filter", role: "search", onsubmit: (event) => event.preventDefault() }, contains, target, rows);
}

function rowActs(at, row) {
  if (!mayAct()) return null;
  const held = at.holds.find((one) => one.key === row.key && one.state !== "released");
  return actions(
    button("Switch…", () => routeKey(at, row.key, row.route), { class: "small", "data-of": row.revision, "aria-label": `Switch ${keyName(row.key)}`, "data-focus": `switch key ${row.key}` }),
    button("Undo…", () => undo(at.name, { keys: [row.key] }), { class: "small", "data-of": row.revision, "aria-label": `Undo ${keyName(row.key)}`, "data-focus": `undo key ${row.key}` }),
    held ? button("Release…", () => release(at.name, row.key), { class: "small", "aria-label": `Release ${keyName(row.key)}`, "data-focus": `release key ${row.key}` })
      : button("Hold…", () => hold(at, row.key), { class: "small", "aria-label": `Hold ${keyName(row.key)}`, "data-focus": `hold key ${row.key}` }),
    button("Reset…", () => resetKey(at, row.key, row.revision), { class: "small", "data-of": row.revision, "aria-label": `Reset ${keyName(row.key)}`, "data-focus": `reset key ${row.key}` }));
}

function keys(at, parameters) {
  if (fault) return refusal(fault);
  if (!page || page.switch !== at.name) return el("p", { class: "empty" }, "reading…");
  const said = (row) => page.commits?.[row.revision];
  const isHeld = (row) => at.holds.some((one) => one.key === row.key && one.state !== "released");
  const isPending = (row) => at.pending.some((one) => one.revision === row.revision);
  const columns = [
    { id: "key", label: "Key", kind: "key", sort: (row) => row.key, of: (row) => [keyName(row.key),
      isHeld(row) && el("span", { class: "badge warn" }, "held"), isPending(row) && el("span", { class: "badge warn" }, "unconfirmed")] },
    { id: "route", label: "Route", sort: (row) => row.route, of: (row) => routeBar(row.route) },
    { id: "who", label: "Set by", sort: (row) => said(row)?.actor, of: (row) => said(row)?.actor ?? "–" },
    { id: "when", label: "When", kind: "when", sort: (row) => said(row)?.time_ms ?? 0, of: (row) => moment(said(row)?.time_ms) },
    { id: "why", label: "Why", kind: "why", sort: (row) => said(row)?.reason, of: (row) => said(row)?.reason ?? "" },
    { id: "revision", label: "Revision", kind: "number", sort: (row) => row.revision, of: (row) => el("a", { href: address("history", { switch: at.name, before: row.revision + 1 }) }, String(row.revision)) },
    ...(mayAct() ? [{ id: "acts", label: "Acts", kind: "doing", of: (row) => rowActs(at, row) }] : []),
  ];
  const [by, down] = (parameters.sort ?? "key").split(".");
  return [
    table({ caption: `Keys of ${at.name}`, columns, rows: page.keys, sorting: { by, down: down === "down" },
      onsort: (next) => change({ sort: `${next.by}${next.down ? ".down" : ""}` }),
      empty: parameters.contains || parameters.target ? "No key fits the filter." : "No key has a route of its own: all follow the default." }),
    el("div", { class: "row pages" },
      parameters.after !== undefined && el("a", { href: address("routes", { ...parameters, after: undefined }), "data-focus": "first" }, "First page"),
      el("span", { class: "quiet" }, `${count(page.keys.length)} keys here, revision ${page.revision}`),
      page.next !== undefined && el("a", { href: address("routes", { ...parameters, after: page.next }), "data-focus": "next" }, "Next page")),
  ];
}

let shownFor = "";

/** Shows the view. */
export function show() {
  const { view, parameters } = place();
  if (view !== "routes") return;
  const at = switchNamed(parameters.switch);
  const box = document.getElementById("view");
  if (!at) return swap(box, el("p", { class: "empty" }, now.readAt ? "The configuration has no switch." : "reading…"));
  // The field that is being typed in stays as it is.
  if (shownFor !== at.name || !document.getElementById("keys")) {
    shownFor = at.name;
    swap(box, el("h1", { class: "unseen" }, "Routes"), el("div", { id: "switches" }), el("div", { id: "head" }), filter(at, parameters), el("div", { id: "keys" }));
  }
  fill(document.getElementById("switches"), switches(at, parameters));
  fill(document.getElementById("head"), head(at));
  fill(document.getElementById("keys"), keys(at, parameters));
}

/** Shows the view for an address that has changed. */
export function enter() {
  const { view, parameters } = place();
  if (view !== "routes") return;
  const typed = document.querySelector("#view input[name=contains]");
  if (typed && document.activeElement !== typed) typed.value = parameters.contains ?? "";
  show();
  read(parameters);
}

let readRevision = "";
on("switches", () => {
  const { view, parameters } = place();
  if (view !== "routes") return;
  const at = switchNamed(parameters.switch);
  const revision = at && `${at.name} ${at.revision}`;
  if (revision !== readRevision) {
    readRevision = revision;
    read(parameters);
  }
  show();
});
