// What an operator can do: each act is checked first (a dry run where the API has one), and each has a reason.
import { get, order, part } from "./api.js";
import { ask, field, refusal } from "./dialog.js";
import { button, el, fill } from "./dom.js";
import { clock, count, duration, hue, keyName, rate, routeText, shares } from "./format.js";
import { now, readFigures, readSwitches } from "./live.js";

const pathOf = (name) => `v1/switches/${part(name)}`;

/** What a receipt says, for people. */
function receipt(found, isDry) {
  const route = (text, whole) => (text === null || text === undefined ? `default (${whole})` : routeText(text));
  const fallback = now.switches.find((one) => one.name === found.switch)?.default ?? "default";
  const changes = found.changes.slice(0, 20).map((change) => el("li", null,
    el("strong", null, keyName(change.key)), ": ", route(change.from, fallback), " → ", route(change.to, fallback),
    change.requests_per_second !== undefined && el("span", { class: "quiet" }, `  ${rate(change.requests_per_second)} requests/s now`),
    change.in_flight !== undefined && el("span", { class: "quiet" }, `, ${count(change.in_flight)} in flight`),
    change.streams ? el("span", { class: "quiet" }, `, ${count(change.streams)} streams`) : null));
  const more = found.changed_keys - changes.length;
  const servers = (found.servers ?? []).map((one) => el("li", null, one.change));
  const gate = found.gate.map((one) => el("li", { class: one.passed ? "good" : "bad" },
    `gate: ${one.target} ${one.passed ? "is up" : "refused"}, ${one.healthy} servers healthy, ${one.required} required`,
    el("ul", null, one.servers.map((server) => el("li", { class: server.healthy ? "good" : "bad" },
      `${server.address}: ${server.reason} (${duration(server.took_us)})`)))));
  const words = {
    would_commit: "This would be done:", would_refuse: "The gate would refuse this:", unchanged: "Nothing would change.",
    committed: `Done: revision ${found.revision}.`, repeated: "It was done before.",
  };
  const acks = found.workers.map((one) => one.after_us);
  const isOver = !isDry && acks.length > 0;
  return el("div", { class: "receipt" },
    el("p", null, el("strong", null, words[found.outcome] ?? found.outcome)),
    el("ul", null, changes, more > 0 && el("li", null, `and ${count(more)} more keys`), servers, gate,
      found.notes?.map((note) => el("li", null, note))),
    found.refusal && refusal({ text: found.refusal }),
    found.confirm_by_ms && el("p", null, `It is reverted at ${clock(found.confirm_by_ms)} unless it is confirmed.`),
    isOver && el("p", { class: "quiet" }, `applied by all workers within ${duration(Math.max(...acks))}`),
    !isDry && found.drain && el("p", { class: "quiet" }, `old side: ${count(found.drain.in_flight)} in flight`));
}

/** Asks for an order that the API can check first. */
function askForOrder({ title, fields, method, path, body, doneWord, tagOf }) {
  let tag = null;
  const send = async (more) => {
    const headers = tag ? { "if-match": tag } : {};
    return order(method, path(), { ...body(), ...more }, headers);
  };
  return ask({
    title,
    fields,
    doneWord,
    check: async (reason) => {
      tag = tagOf ? await tagOf() : null;
      const { body: found, tag: seen } = await send({ reason, dry_run: true });
      // What is done is what was shown: an order in between is a refusal.
      tag ??= seen;
      return {
        shown: receipt(found, true),
        doable: found.outcome === "would_commit",
        forceable: found.outcome === "would_refuse",
      };
    },
    act: async (reason, force) => {
      const { body: found } = await send({ reason, ...(force ? { force: true } : {}) });
      readSwitches();
      readFigures();
      return { shown: receipt(found, false), said: `${title}: revision ${found.revision}` };
    },
  });
}

/** Sliders for the shares of a route. What one takes or leaves is taken from the others or left to them, in proportion. */
function sharesInput(targets, route, fallback, changed) {
  const present = new Map(shares(route).map((one) => [one.target, Math.round(one.percent)]));
  const names = [...new Set([...targets, ...present.keys()])];
  const weights = new Map(names.map((name) => [name, present.get(name) ?? 0]));
  const lines = new Map();
  const set = (name, value) => {
    const others = names.filter((other) => other !== name);
    const sum = others.reduce((sum, other) => sum + weights.get(other), 0);
    let left = others.length ? 100 - value : 0;
    weights.set(name, 100 - left);
    for (const other of others) {
      const share = sum ? Math.floor((weights.get(other) / sum) * (100 - value)) : 0;
      weights.set(other, share);
      left -= share;
    }
    // What rounding leaves goes to one that has a share, or else to the default.
    const heir = others.find((other) => weights.get(other) > 0) ?? others.find((other) => other === fallback) ?? others[0];
    if (heir !== undefined) weights.set(heir, weights.get(heir) + left);
    show();
  };
  const show = () => {
    const sum = [...weights.values()].reduce((sum, weight) => sum + weight, 0);
    for (const [name, { slider, said }] of lines) {
      slider.value = String(weights.get(name));
      const percent = sum ? Math.round((weights.get(name) / sum) * 100) : 0;
      said.textContent = `${percent} %`;
      slider.setAttribute("aria-valuetext", `${percent} % to ${name}`);
    }
  };
  const box = el("fieldset", { class: "shares" }, el("legend", null, "Route"), names.map((name) => {
    const slider = el("input", { type: "range", min: 0, max: 100, step: 1, "aria-label": `Share of ${name}`, name: `share ${name}`,
      oninput: (event) => set(name, Number(event.target.value)) });
    const said = el("output", null);
    lines.set(name, { slider, said });
    const all = button("all", () => {
      names.forEach((other) => weights.set(other, other === name ? 100 : 0));
      show();
      changed();
    }, { class: "small", name: `all ${name}`, "aria-label": `All to ${name}` });
    return el("div", { class: "share" }, el("span", { class: `dot hue${hue(name)}`, "aria-hidden": "true" }), el("span", { class: "name" }, name), slider, said, all);
  }));
  show();
  return {
    box,
    order: () => {
      const used = names.filter((name) => weights.get(name) > 0);
      if (used.length === 1) return { target: used[0] };
      return { split: Object.fromEntries(used.map((name) => [name, weights.get(name)])) };
    },
  };
}

const confirmWithin = () => el("select", { name: "confirm_within" },
  [["", "stays"], ["1m", "1 minute"], ["5m", "5 minutes"], ["15m", "15 minutes"], ["1h", "1 hour"]].map(([value, label]) => el("option", { value }, label)));

/** Routes a key to a target, or to several. */
export function routeKey(at, key, route) {
  const name = el("input", { type: "text", required: true, value: key ?? "", name: "key", autocomplete: "off", spellcheck: "false", readonly: key !== undefined });
  const window = confirmWithin();
  let dialog;
  const route0 = sharesInput(at.targets, route ?? at.default, at.default, () => dialog.stale());
  const path = () => `${pathOf(at.name)}/keys/${part(name.value.trim())}`;
  dialog = askForOrder({
    title: key === undefined ? `Route a key of ${at.name}` : `Route ${keyName(key)}`,
    fields: [field("Key", name), route0.box, field("Reverts unless confirmed within", window)],
    method: "PUT",
    path,
    body: () => ({ ...route0.order(), ...(window.value ? { confirm_within: window.value } : {}) }),
    doneWord: "Switch",
    tagOf: async () => {
      const found = await get(path());
      return `"entry-${found.entry === found.key ? found.entry_revision : 0}"`;
    },
  });
}

/** Removes a key's entry. */
export function resetKey(at, key, revision) {
  askForOrder({
    title: `Reset ${keyName(key)} to the default`,
    fields: [el("p", null, `The key gets the route of ${at.name}'s default, ${at.default}, or of a wildcard.`)],
    method: "DELETE",
    path: () => `${pathOf(at.name)}/keys/${part(key)}`,
    body: () => ({}),
    doneWord: "Reset",
    tagOf: async () => `"entry-${revision}"`,
  });
}

/** Undoes a commit, or the last change of a key. */
export function undo(name, what) {
  const subject = what.commit ? `revision ${what.commit}` : `the last change of ${keyName(what.keys[0])}`;
  askForOrder({
    title: `Undo ${subject}`,
    fields: [],
    method: "POST",
    path: () => `${pathOf(name)}/undo`,
    body: () => what,
    doneWord: "Undo",
  });
}

/** Confirms a commit. */
export function confirm(name, revision) {
  ask({
    title: `Confirm revision ${revision} of ${name}`,
    fields: [],
    checkWord: "Show what stays",
    doneWord: "Confirm",
    check: async () => {
      const found = await get(`${pathOf(name)}/history`, { before: revision + 1, limit: 1 });
      const commit = found.commits.find((one) => one.revision === revision);
      const changes = [...(commit?.changes ?? []).map((one) => `${keyName(one.key)}: ${routeText(one.from ?? "default")} → ${routeText(one.to ?? "default")}`),
        ...(commit?.subjects ?? []).filter((one) => (one.text || one.from) && one.subject !== "forgotten").map((one) => one.text ?? `${one.subject} ${one.name}: ${one.from ?? ""} → ${one.to ?? ""}`)];
      return {
        doable: true,
        shown: el("div", { class: "receipt" }, el("p", null, el("strong", null, "This stays, and is not reverted any more:")),
          el("ul", null, changes.slice(0, 20).map((line) => el("li", null, line))),
          el("p", { class: "quiet" }, `by ${commit?.actor ?? "?"}${commit?.reason ? `: ${commit.reason}` : ""}`)),
      };
    },
    act: async (reason) => {
      await order("POST", `${pathOf(name)}/confirm`, { revision, reason });
      readSwitches();
      return { shown: el("p", null, `Revision ${revision} stays.`), said: `Confirmed: revision ${revision}` };
    },
  });
}

/** Holds a key's requests. */
export function hold(at, key) {
  const name = el("input", { type: "text", required: true, value: key ?? "", name: "key", autocomplete: "off", spellcheck: "false", readonly: key !== undefined });
  const longest = el("input", { type: "text", value: "10s", name: "timeout", pattern: "([0-9]+(w|d|h|m|s|ms) *)+" });
  const end = el("input", { type: "text", value: "5m", name: "for", pattern: "([0-9]+(w|d|h|m|s|ms) *)*" });
  const then = el("select", { name: "then" }, el("option", { value: "release" }, "go on"), el("option", { value: "refuse" }, "get 503"));
  const path = () => `${pathOf(at.name)}/holds/${part(name.value.trim())}`;
  ask({
    title: key === undefined ? `Hold a key of ${at.name}` : `Hold ${keyName(key)}`,
    fields: [field("Key", name), field("A request waits at most", longest), field("The hold ends after", end, "Empty: it does not end by itself."), field("Then its requests", then)],
    doneWord: "Hold",
    check: async () => {
      const found = await get(`${pathOf(at.name)}/keys/${part(name.value.trim())}`);
      const ends = end.value.trim() ? `After ${end.value.trim()} they ${then.value === "release" ? "go on" : "get 503"}.` : "It does not end by itself.";
      return {
        doable: !found.hold,
        shown: el("div", { class: "receipt" },
          el("p", null, el("strong", null, found.hold ? "The key is held already." : "This would be done:")),
          el("p", null, `New requests of ${keyName(found.key)}, which go to ${routeText(found.route)} now, wait, each at most ${longest.value}; then they get 503. ${ends}`)),
      };
    },
    act: async (reason) => {
      const terms = { timeout: longest.value, reason };
      if (end.value.trim()) Object.assign(terms, { for: end.value.trim(), then: then.value });
      const { body: found } = await order("PUT", path(), terms);
      readSwitches();
      return { shown: el("p", null, `${keyName(found.key)} is held.`, found.notes?.map((note) => ` ${note}`)), said: `Held: ${keyName(found.key)}` };
    },
  });
}

/** Releases a key's requests. */
export function release(name, key) {
  const found = () => now.switches.find((one) => one.name === name)?.holds.find((one) => one.key === key);
  const pace = el("input", { type: "number", min: 1, max: 100000, name: "per_second" });
  ask({
    title: `Release ${keyName(key)}`,
    fields: [field("Requests per second", pace, "Empty: all at once.")],
    doneWord: "Release",
    check: async () => {
      await readSwitches();
      const held = found();
      return {
        doable: Boolean(held),
        shown: el("p", null, held ? `${count(held.waiting)} requests wait, since ${clock(held.since_ms)}; ${count(held.rejected)} got 503.` : "The key is not held any more."),
      };
    },
    act: async (reason) => {
      const terms = { reason, ...(pace.value ? { per_second: Number(pace.value) } : {}) };
      const { body: released } = await order("DELETE", `${pathOf(name)}/holds/${part(key)}`, terms);
      readSwitches();
      return { shown: el("p", null, `Released: ${count(released.waiting)} requests went on.`), said: `Released: ${keyName(key)}` };
    },
  });
}

/** Changes a server of a group: drain, down, up, reset. */
export function changeServer(group, server, act) {
  const titles = { drain: `Drain ${server}`, down: `Take ${server} down`, up: `Bring ${server} up`, reset: `Reset ${server} to the configuration` };
  const meanings = {
    drain: "It gets no new clients; sticky ones stay, and requests under way end.",
    down: "It gets no request.",
    up: "It gets requests again.",
    reset: "It is as in the configuration again.",
  };
  askForOrder({
    title: `${titles[act]} (${group})`,
    fields: [el("p", null, meanings[act])],
    method: "POST",
    path: () => `v1/groups/${part(group)}/servers`,
    body: () => ({ changes: [{ do: act, server }] }),
    doneWord: { drain: "Drain", down: "Take down", up: "Bring up", reset: "Reset" }[act],
  });
}

/** Makes the buttons of an act in a row, for those who may act. */
export function actions(...buttons) {
  const box = el("span", { class: "acts" });
  fill(box, buttons);
  return box;
}
