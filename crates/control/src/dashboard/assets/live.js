// What the server has, as it is now. Events say at once that something happened; figures are read every few seconds while
// someone can see the page.
import { get, knowSession, Problem } from "./api.js";

const FIGURES_MS = 5000;
const AGAIN_MS = [500, 1000, 2000, 5000];

/** The newest answers. */
export const now = { switches: [], groups: [], window: "1m", readAt: 0, isLive: false };
const listeners = new Map();
const heard = [];

/** Calls a listener after each "switches", "groups", "event", "connection" or "figures". */
export function on(what, listener) {
  listeners.set(what, [...(listeners.get(what) ?? []), listener]);
}

function tell(what, value) {
  for (const listener of listeners.get(what) ?? []) listener(value);
}

/** The events of this visit, newest first. */
export const events = () => heard;

export function useWindow(window) {
  now.window = window;
  readFigures();
}

/** The switch of this name, or the first. */
export function switchNamed(name) {
  return now.switches.find((one) => one.name === name) ?? now.switches[0];
}

export async function readSwitches() {
  const answer = await quiet(() => get("v1/switches"));
  if (!answer) return;
  now.switches = answer.switches;
  now.readAt = performance.now();
  tell("switches");
}

let reading = false;
export async function readFigures() {
  if (reading) return;
  reading = true;
  const answer = await quiet(() => get("v1/groups", { window: now.window }));
  reading = false;
  if (!answer) return;
  now.groups = answer.groups;
  now.groupsFault = answer.store_fault;
  tell("groups");
  tell("figures");
}

async function quiet(question) {
  try {
    return await question();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    setLive(problem.code === "unreachable" ? false : now.isLive);
    return null;
  }
}

function setLive(isLive) {
  if (now.isLive === isLive) return;
  now.isLive = isLive;
  tell("connection");
}

let attempts = 0;
let soon;

/** Listens to events, for as long as the page is open. */
export function listen() {
  const source = new EventSource("v1/events");
  source.onopen = () => {
    attempts = 0;
    setLive(true);
    readSwitches();
    readFigures();
  };
  source.onerror = () => {
    setLive(false);
    source.close();
    const wait = AGAIN_MS[Math.min(attempts, AGAIN_MS.length - 1)];
    attempts += 1;
    setTimeout(async () => {
      try {
        await knowSession();
        listen();
      } catch (problem) {
        if (problem.status === 401) location.reload();
        else listen();
      }
    }, wait);
  };
  const names = ["committed", "gate", "unconfirmed", "overdue", "drained", "receipt", "held", "still_held", "hold_expired",
    "released", "health", "store_failed"];
  for (const name of names) {
    source.addEventListener(name, (message) => {
      const event = JSON.parse(message.data);
      heard.unshift(event);
      heard.length = Math.min(heard.length, 200);
      tell("event", event);
      // Several events of one order are one question.
      clearTimeout(soon);
      soon = setTimeout(() => {
        readSwitches();
        if (name === "health" || event.switch === "groups") readFigures();
      }, 50);
    });
  }
}

/** Reads figures while the page can be seen. */
export function keepReading() {
  const tick = () => {
    if (document.visibilityState !== "visible") return;
    readFigures();
    readSwitches();
  };
  setInterval(tick, FIGURES_MS);
  document.addEventListener("visibilitychange", tick);
}
