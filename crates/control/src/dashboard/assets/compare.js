// Two groups side by side: which differences are real, and which are noise.
import { get } from "./api.js";
import { refusal } from "./dialog.js";
import { el, fill, swap, table } from "./dom.js";
import { count, duration } from "./format.js";
import { now, on } from "./live.js";
import { change, place } from "./place.js";

const WORDS = {
  better: ["good", "better"], worse: ["bad", "worse"], noise: ["quiet", "no difference that is more than chance"], too_few: ["quiet", "too few requests to say"],
};
let shown = "";

async function read(a, b) {
  const box = document.getElementById("compared");
  if (!box) return;
  try {
    const found = await get("v1/compare", { a, b, window: now.window });
    const write = (figure, value) => (value === undefined ? "–" : figure === "errors" ? `${(value * 100).toFixed(2)} %` : duration(value));
    const columns = [
      { id: "figure", label: "Figure", of: (row) => row.figure },
      { id: "a", label: a, kind: "number", of: (row) => write(row.figure, row.a) },
      { id: "b", label: b, kind: "number", of: (row) => write(row.figure, row.b) },
      { id: "verdict", label: `${b} is`, of: (row) => el("span", { class: `badge ${WORDS[row.verdict][0]}` }, WORDS[row.verdict][1], row.needed ? ` (${count(row.needed)} needed)` : "") },
    ];
    fill(box, table({ caption: `${a} and ${b}`, columns, rows: found.judged, empty: "" }),
      el("p", { class: "quiet" }, `${count(found.a.requests)} and ${count(found.b.requests)} requests in ${found.window}; ${found.method}`));
  } catch (problem) {
    fill(box, refusal(problem));
  }
}

export function show() {
  const { view, parameters } = place();
  if (view !== "compare") return;
  const names = now.groups.map((group) => group.name);
  const a = parameters.a ?? names[0];
  const b = parameters.b ?? names.find((name) => name !== a);
  const state = JSON.stringify([names, a, b]);
  if (state !== shown || !document.getElementById("compared")) {
    shown = state;
    const choice = (label, name, value) => el("label", null, `${label} `, el("select", { name, "data-focus": name, onchange: (event) => change({ [name]: event.target.value }, true) },
      names.map((one) => el("option", { value: one, selected: one === value }, one))));
    swap(document.getElementById("view"), el("h1", { class: "unseen" }, "Compare"), el("form", { class: "filter" }, choice("Compare", "a", a), choice("with", "b", b)), el("div", { id: "compared" }));
  }
  if (a && b) read(a, b);
  else fill(document.getElementById("compared"), el("p", { class: "empty" }, "There are no two groups."));
}

export const enter = show;
on("groups", show);
