// How numbers, times and routes are written.
import { el } from "./dom.js";

const two = (number) => String(number).padStart(2, "0");

/** A time of day; with the date if it was not today. */
export function clock(ms) {
  if (!ms) return "";
  const at = new Date(ms);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? time : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

/** A time as an element that says the exact one. */
export function moment(ms) {
  return ms ? el("time", { datetime: new Date(ms).toISOString(), title: new Date(ms).toISOString() }, clock(ms)) : "";
}

/** A span: 850 ms, 12 s, 3 min 20 s, 2 h 5 min. */
export function span(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/** A duration of microseconds: 640 µs, 12.3 ms, 1.20 s; a dash for none. */
export function duration(us) {
  if (us === undefined || us === null) return "–";
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1_000_000) return `${(us / 1000).toPrecision(3)} ms`;
  return `${(us / 1_000_000).toFixed(2)} s`;
}

/** A rate: 0, 0.35, 12.4, 1 240. */
export function rate(number) {
  if (!number) return "0";
  if (number < 1) return number.toFixed(2);
  if (number < 100) return number.toFixed(1);
  return count(number);
}

/** A count with thin spaces between thousands. */
export function count(number) {
  return String(Math.round(number ?? 0)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** A share of errors: none, 0.2 %, 12 %. */
export function share(part, whole) {
  if (!whole || !part) return "0 %";
  const percent = (part / whole) * 100;
  return `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
}

/** The name of a key; the empty one has a name, too. */
export function keyName(key) {
  return key === "" ? "(empty key)" : key;
}

/** Reads a route: "green", or "green=10 blue=90". */
export function shares(route) {
  const words = String(route).split(" ").filter(Boolean);
  if (words.length === 1 && !words[0].includes("=")) return [{ target: words[0], weight: 1, percent: 100 }];
  const parts = words.map((word) => {
    const at = word.lastIndexOf("=");
    return { target: word.slice(0, at), weight: Number(word.slice(at + 1)) };
  });
  const sum = parts.reduce((sum, part) => sum + part.weight, 0) || 1;
  return parts.map((part) => ({ ...part, percent: (part.weight / sum) * 100 }));
}

const percent = (number) => `${number < 10 && number % 1 ? number.toFixed(1) : Math.round(number)} %`;

/** The colour of a group: the same everywhere on the page. */
export function hue(name) {
  const known = { blue: 0, green: 1, red: 6, canary: 3 };
  if (name in known) return known[name];
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 997;
  return sum % 8;
}

/** A route as words, and as a bar of its shares. */
export function routeText(route) {
  const parts = shares(route);
  return parts.length === 1 ? parts[0].target : parts.map((part) => `${part.target} ${percent(part.percent)}`).join(", ");
}

export function routeBar(route) {
  const parts = shares(route);
  // The width of a part is a flex factor, set by script and not in markup.
  const bar = el("span", { class: "bar", "aria-hidden": "true" }, parts.map((part) => {
    const piece = el("span", { class: `hue${hue(part.target)}` });
    piece.style.flexGrow = String(part.percent);
    return piece;
  }));
  return el("span", { class: "route" }, bar, el("span", null, routeText(route)));
}

/** A state as a badge: colour, sign and word say the same. */
export function badge(state) {
  const kinds = {
    healthy: ["good", "●"], up: ["good", "●"], degraded: ["warn", "▲"], checking: ["warn", "◌"], draining: ["warn", "▽"],
    down: ["bad", "■"], failed: ["bad", "■"], unhealthy: ["bad", "■"], failing: ["bad", "■"], empty: ["quiet", "○"],
  };
  const [kind, sign] = kinds[state] ?? ["quiet", "○"];
  return el("span", { class: `badge ${kind}` }, el("span", { "aria-hidden": "true" }, `${sign} `), state || "unknown");
}
