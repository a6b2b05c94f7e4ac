// The page: who is there, where one is, and what is shown of it.
import { knowSession, logOut, Problem, visitor } from "./api.js";
import * as attention from "./attention.js";
import * as compare from "./compare.js";
import { button, el, fill, say } from "./dom.js";
import * as groups from "./groups.js";
import * as history from "./history.js";
import * as keys from "./keys.js";
import { keepReading, listen, now, on, useWindow } from "./live.js";
import { address, place, whenMoved } from "./place.js";
import * as timeline from "./timeline.js";

const VIEWS = [["routes", "Routes"], ["timeline", "Timeline"], ["groups", "Groups"], ["history", "History"], ["compare", "Compare"]];
const SWITCHED = ["routes", "timeline", "history"];

function tabs() {
  const { view, parameters } = place();
  // The switch that one looks at stays the same.
  const kept = parameters.switch && parameters.switch !== "groups" ? { switch: parameters.switch } : {};
  fill(document.getElementById("tabs"), VIEWS.map(([name, label]) => el("a", {
    href: address(name, SWITCHED.includes(name) ? kept : {}), "aria-current": name === view && "page", "data-focus": `view ${name}`,
  }, label)));
}

function move() {
  tabs();
  for (const view of [timeline, keys, groups, history, compare]) view.enter();
}

function connection() {
  const place = document.getElementById("connection");
  place.className = now.isLive ? "good" : "bad";
  place.textContent = now.isLive ? "live" : "reconnecting…";
  document.documentElement.classList.toggle("stale", !now.isLive);
}

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  timeline.redraw();
}

function kept(name) {
  try {
    return localStorage.getItem(name) ?? "";
  } catch {
    return "";
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // A browser may have no place for it.
  }
}

function tools() {
  const { name, role } = visitor();
  const window = el("select", { "aria-label": "Window of the figures", name: "window", onchange: (event) => useWindow(event.target.value) },
    ["10s", "1m", "5m", "1h"].map((one) => el("option", { value: one, selected: one === now.window }, `last ${one}`)));
  const look = el("select", { "aria-label": "Colours", name: "theme", onchange: (event) => { keep("theme", event.target.value); theme(event.target.value); } },
    [["", "as the system"], ["light", "light"], ["dark", "dark"]].map(([value, label]) => el("option", { value, selected: value === kept("theme") }, label)));
  fill(document.getElementById("tools"), window, look,
    el("span", { id: "who" }, name, " ", el("span", { class: `badge ${role === "operator" ? "warn" : "quiet"}` }, role)),
    button("Log out", async () => {
      try {
        await logOut();
      } catch (problem) {
        if (problem instanceof Problem) say(problem.message, true);
      }
    }, { name: "logout" }));
}

async function begin() {
  theme(kept("theme"));
  await knowSession();
  tools();
  on("connection", connection);
  on("switches", attention.show);
  on("groups", attention.show);
  setInterval(attention.countDown, 1000);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", timeline.redraw);
  whenMoved(move);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("view").focus();
  });
  listen();
  keepReading();
  move();
}

begin().catch((problem) => {
  if (problem.status === 401) location.reload();
  else fill(document.getElementById("view"), el("p", { class: "refusal", role: "alert" }, problem.message));
});
