// Dialogs: something is asked, what would happen is shown, and only then it is done.
import { Problem } from "./api.js";
import { button, el, fill, say } from "./dom.js";

/** Shows a refusal: what, and what to do. */
export function refusal(problem) {
  const lines = Object.entries(problem.details ?? {}).filter(([name]) => name !== "names").flatMap(([, value]) =>
    Array.isArray(value) ? value.map((line) => (typeof line === "object" ? Object.values(line).join("  ") : String(line))) : []);
  return el("div", { class: "refusal", role: "alert" },
    el("p", null, el("strong", null, "Refused: "), problem.message ?? problem.text),
    lines.length > 0 && el("ul", null, lines.map((line) => el("li", null, line))),
    problem.remedy && el("p", { class: "remedy" }, problem.remedy));
}

/** Makes a labelled field. */
export function field(label, input, hint) {
  const id = `f${Math.random().toString(36).slice(2)}`;
  input.id = id;
  const hintId = `${id}h`;
  if (hint) input.setAttribute("aria-describedby", hintId);
  return el("div", { class: "field" }, el("label", { for: id }, label), input, hint && el("small", { id: hintId }, hint));
}

/**
 * Asks for an act. `fields` are shown above the reason; `check(reason)` returns what would happen, as
 * {shown, doable, forceable}; `act(reason, force)` does it and returns what to show.
 */
export function ask({ title, fields, check, act, doneWord, checkWord }) {
  const opener = document.activeElement;
  const reason = el("input", { type: "text", maxlength: 300, required: true, autocomplete: "off", name: "reason" });
  const force = el("input", { type: "checkbox", name: "force" });
  const forceLine = el("label", { class: "check", hidden: true }, force, " Do it although the gate refuses. The history records it.");
  const shown = el("div", { class: "shown", "aria-live": "polite" });
  const first = el("button", { type: "submit", name: "check", class: "main" }, checkWord ?? "Show what would happen");
  const second = button(doneWord, () => carryOut(), { name: "act", class: "main danger", hidden: true });
  const close = button("Cancel", () => dialog.close(), { name: "close" });
  const heading = el("h2", { id: "ask-title" }, title);
  const form = el("form", { onsubmit: (event) => { event.preventDefault(); look(); } },
    heading, fields, field("Reason", reason, "Goes into the history, with your name."), forceLine, shown,
    el("div", { class: "row" }, close, first, second));
  const dialog = el("dialog", { "aria-labelledby": "ask-title" }, form);

  // What was shown is of what stood there.
  form.addEventListener("input", (event) => {
    if (event.target === force) { second.disabled = !force.checked; return; }
    if (event.target === reason) return;
    fill(shown);
    second.hidden = true;
    forceLine.hidden = true;
    first.hidden = false;
  });

  async function busy(work) {
    for (const one of [first, second]) one.disabled = true;
    form.setAttribute("aria-busy", "true");
    try {
      return await work();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      fill(shown, refusal(problem));
      second.hidden = true;
      first.hidden = false;
      return null;
    } finally {
      form.removeAttribute("aria-busy");
      for (const one of [first, second]) one.disabled = false;
    }
  }

  async function look() {
    const found = await busy(() => check(reason.value.trim()));
    if (!found) return;
    fill(shown, found.shown);
    forceLine.hidden = !found.forceable;
    force.checked = false;
    second.hidden = !found.doable && !found.forceable;
    second.disabled = !found.doable;
    first.hidden = !second.hidden;
    if (found.doable) second.focus();
  }

  async function carryOut() {
    if (!form.reportValidity()) return;
    const done = await busy(() => act(reason.value.trim(), force.checked));
    if (!done) return;
    fill(shown, done.shown);
    say(done.said);
    for (const one of [first, second]) one.hidden = true;
    forceLine.hidden = true;
    close.textContent = "Close";
    close.focus();
  }

  dialog.addEventListener("close", () => {
    dialog.remove();
    opener?.focus?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  (form.querySelector("input:not([type=checkbox]):not([readonly]), select") ?? reason).focus();
  return { dialog, stale: () => form.dispatchEvent(new Event("input")) };
}
