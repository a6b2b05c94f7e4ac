// What happened, over how the groups did.
import { get, part } from "./api.js";
import { chart } from "./chart.js";
import { changesOf } from "./history.js";
import { el, fill, swap, table } from "./dom.js";
import { duration, keyName, moment, rate } from "./format.js";
import { now, on, switchNamed } from "./live.js";
import { address, change, place } from "./place.js";

/** The windows, finest first: their slots are put together into one line. */
const WINDOWS = ["1m", "5m", "1h"];
const RANGES = { "5m": 300, "15m": 900, "1h": 3600 };
const MOST = 6;
/** By window: {slot_ms, by name: Map of slot -> point, first, last, lastMs}. */
const kept = new Map();
let charts = null;
let happenings = [];

function keep(answer) {
  let known = kept.get(answer.window);
  // Numbers that go back are those of a server that was started anew.
  if (!known || answer.last < known.last) {
    known = { slotMs: answer.slot_ms, first: answer.first, groups: new Map() };
    kept.set(answer.window, known);
  }
  known.last = answer.last;
  known.lastMs = answer.last_ms;
  for (const group of answer.groups) {
    if (!known.groups.has(group.name)) known.groups.set(group.name, new Map());
    const points = known.groups.get(group.name);
    for (const point of group.points) points.set(point.slot, point);
    const oldest = known.last - Math.ceil(3_600_000 / known.slotMs);
    for (const slot of points.keys()) if (slot < oldest) points.delete(slot);
  }
}

/** Returns the slots of the range, coarse ones where no finer ones reach: [window, slot, end in seconds]. */
function slots(seconds) {
  let before = Infinity;
  const found = [];
  const from = Date.now() / 1000 - seconds;
  for (const window of WINDOWS) {
    const known = kept.get(window);
    if (!known) continue;
    const end = (slot) => (known.lastMs + (slot - known.last + 1) * known.slotMs) / 1000;
    for (let slot = known.last - 1; slot >= known.first && end(slot) > from; slot -= 1) {
      if (end(slot) > before) continue;
      found.push([known, slot, end(slot)]);
    }
    if (known.first < known.last) before = Math.min(before, end(known.first) - known.slotMs / 1000 + 0.001);
  }
  return found.sort((a, b) => a[2] - b[2]);
}

const FIGURES = [
  { title: "Requests per second", unit: "", of: (point, span) => (point ? point.requests / span : 0) },
  { title: "Errors per second", unit: "", of: (point, span) => (point ? point.errors / span : 0) },
  { title: "Median response time", unit: " ms", of: (point) => (point?.p50_us === undefined ? null : point.p50_us / 1000) },
  { title: "99th percentile of response times", unit: " ms", of: (point) => (point?.p99_us === undefined ? null : point.p99_us / 1000) },
];

/** The groups of the plots: those that are chosen, or the targets of the switch, or the busiest. */
function chosen(parameters) {
  if (parameters.groups) return parameters.groups.split(",").filter(Boolean);
  const names = now.groups.map((group) => group.name);
  const targets = switchNamed(parameters.switch)?.targets.filter((target) => names.includes(target)) ?? [];
  const busy = [...now.groups].sort((a, b) => (b.traffic?.requests ?? 0) - (a.traffic?.requests ?? 0)).map((group) => group.name);
  return [...new Set([...targets, ...busy])].slice(0, MOST);
}

async function readSeries(windows) {
  for (const window of windows) {
    try {
      keep(await get("v1/series", { window }));
    } catch {
      return;
    }
  }
  draw();
}

/** Reads what happened: commits of all switches, holds, reloads and refusals. */
async function readHappenings() {
  const commits = async (name) => (await get(`v1/switches/${part(name)}/history`, { limit: 50 })).commits.map((commit) => ({
    time: commit.time_ms, kind: ["revert"].includes(commit.kind) ? "bad" : "good", what: commit.kind === "set" ? "commit" : commit.kind,
    where: `${name} revision ${commit.revision}`, link: address("history", { switch: name, before: commit.revision + 1 }),
    who: commit.actor, why: commit.reason ?? "", text: changesOf(commit, 3).join("; "),
  }));
  const journal = async () => (await get("v1/journal", { limit: 100 })).entries.map((entry) => ({
    time: entry.time_ms, kind: { hold: "warn", release: "good", reload: "good", start: "good", upgrade: "good" }[entry.kind] ?? "bad", what: entry.kind,
    where: [entry.switch, entry.subject === undefined || entry.subject === null ? "" : keyName(entry.subject)].filter(Boolean).join(" "),
    who: entry.actor, why: entry.reason ?? "", text: entry.count > 1 ? `${entry.count} times` : "",
  }));
  const questions = [...now.switches.map((one) => one.name), "groups"].map(commits);
  const answers = await Promise.allSettled([...questions, journal()]);
  happenings = answers.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : [])).sort((a, b) => b.time - a.time);
  list();
  draw();
}

function list() {
  const box = document.getElementById("happenings");
  if (!box) return;
  const { parameters } = place();
  const shown = happenings.filter((one) => !parameters.kind || one.what === parameters.kind).slice(0, 100);
  const kinds = [...new Set(happenings.map((one) => one.what))].sort();
  const columns = [
    { id: "when", label: "When", kind: "when", of: (row) => moment(row.time) },
    { id: "what", label: "What", of: (row) => el("span", { class: `badge ${row.kind}` }, row.what) },
    { id: "where", label: "Where", of: (row) => (row.link ? el("a", { href: row.link }, row.where) : row.where) },
    { id: "who", label: "Who", of: (row) => row.who },
    { id: "text", label: "Change", kind: "why", of: (row) => row.text },
    { id: "why", label: "Why", kind: "why", of: (row) => row.why },
  ];
  fill(box, el("label", null, "Show ", el("select", { name: "kind", "data-focus": "kind", onchange: (event) => { change({ kind: event.target.value }); list(); } },
    el("option", { value: "" }, "everything"), kinds.map((kind) => el("option", { value: kind, selected: kind === parameters.kind }, kind)))),
    table({ caption: "What happened", columns, rows: shown, empty: "Nothing has happened yet." }));
}

function draw() {
  if (!charts || !document.getElementById("plots")) return;
  const { parameters } = place();
  const seconds = RANGES[parameters.range] ?? RANGES["5m"];
  const found = slots(seconds);
  const times = found.map((one) => one[2]);
  const marks = happenings.filter((one) => !parameters.kind || one.what === parameters.kind).map((one) => ({ time: one.time / 1000, kind: one.kind }));
  FIGURES.forEach((figure, at) => {
    const rows = charts.names.map((name) => found.map(([known, slot]) => figure.of(known.groups.get(name)?.get(slot), known.slotMs / 1000)));
    const last = charts.names.map((name, number) => {
      const value = rows[number].findLast((one) => one !== null);
      return `${name} ${value === undefined ? "none" : figure.unit ? duration(value * 1000) : rate(value)}`;
    });
    charts.plots[at].update(times, rows, marks, `${figure.title}, now: ${last.join(", ")}`);
  });
}

/** Shows the view. */
export function show() {
  const { view, parameters } = place();
  if (view !== "timeline") return leave();
  const names = chosen(parameters);
  const state = names.join(",");
  if (charts?.state !== state || !document.getElementById("plots")) {
    leave();
    const plots = FIGURES.map((figure) => chart({ ...figure, names, sync: "timeline" }));
    charts = { state, names, plots };
    const range = el("select", { name: "range", "aria-label": "How far back", onchange: (event) => { change({ range: event.target.value }); draw(); } },
      Object.keys(RANGES).map((one) => el("option", { value: one, selected: one === (parameters.range ?? "5m") }, `last ${one}`)));
    const groups = el("fieldset", { class: "chips" }, el("legend", null, "Groups"), now.groups.slice(0, 60).map((group) => el("label", null,
      el("input", { type: "checkbox", name: `group ${group.name}`, checked: names.includes(group.name), onchange: (event) => {
        const others = names.filter((name) => name !== group.name);
        change({ groups: (event.target.checked ? [...others, group.name] : others).join(",") });
        show();
      } }), group.name)));
    swap(document.getElementById("view"), el("h1", { class: "unseen" }, "Timeline"), el("form", { class: "filter" }, range, groups),
      el("div", { id: "plots", class: "plots" }, plots.map((one) => one.box)), el("h2", null, "What happened"), el("div", { id: "happenings" }));
    list();
  }
  draw();
}

function leave() {
  charts?.plots.forEach((plot) => plot.end());
  charts = null;
}

export function enter() {
  const { view } = place();
  show();
  if (view !== "timeline") return;
  readSeries([...WINDOWS].reverse());
  readHappenings();
}

/** Draws anew in other colours. */
export function redraw() {
  leave();
  show();
}

on("figures", () => {
  if (place().view !== "timeline") return;
  // The groups are known a moment after the page is.
  if (charts && charts.names.length === 0) show();
  readSeries(["1m"]);
});
on("switches", () => { if (charts && charts.names.length === 0) show(); });
let soon;
on("event", () => {
  if (place().view !== "timeline") return;
  clearTimeout(soon);
  soon = setTimeout(readHappenings, 200);
});
