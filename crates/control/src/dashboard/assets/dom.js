// Elements, and how they are replaced without a loss of the keyboard's place.
// Texts become text nodes: nothing that a server says is ever read as markup.

/** Makes an element. Properties that begin with "on" are listeners; the others are attributes; false and null leave one out. */
export function el(tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else if (name === "checked") node.checked = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const nodes = (children) => children.flat(Infinity)
  .filter((child) => child !== null && child !== undefined && child !== false)
  .map((child) => (child instanceof Node ? child : document.createTextNode(child)));

/** Puts other things into an element. */
export function swap(parent, ...children) {
  parent.replaceChildren(...nodes(children));
}

/**
 * Brings what is in an element up to date. What is the same stays, so that a click, a selection or the keyboard's place is not
 * lost under someone's hands; a button is the same if all that is written on it is (`data-of` says what it acts on).
 */
export function fill(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset?.focus : undefined;
  patch(parent, nodes(children));
  if (focused !== undefined && document.activeElement?.dataset?.focus !== focused) {
    [...parent.querySelectorAll("[data-focus]")].find((one) => one.dataset.focus === focused)?.focus({ preventScroll: true });
  }
}

function patch(parent, wanted) {
  let old = parent.firstChild;
  for (const next of wanted) {
    if (!old) {
      parent.append(next);
      continue;
    }
    const following = old.nextSibling;
    if (!old.isEqualNode(next)) {
      if (isShellOf(old, next)) patch(old, [...next.childNodes]);
      else old.replaceWith(next);
    }
    old = following;
  }
  while (old) {
    const following = old.nextSibling;
    old.remove();
    old = following;
  }
}

const WHOLE = ["BUTTON", "INPUT", "SELECT"];
/** Says whether two elements differ in what is in them alone. */
function isShellOf(old, next) {
  return old instanceof Element && next instanceof Element && !WHOLE.includes(old.tagName)
    && old.cloneNode(false).isEqualNode(next.cloneNode(false));
}

/** Makes a button. */
export function button(label, onclick, properties) {
  return el("button", { type: "button", onclick, ...properties }, label);
}

/** Makes a table in its frame. Columns: {label, of(row) -> child, sort(row) -> value, narrow: class}. */
export function table({ caption, columns, rows, sorting, onsort, empty, key }) {
  if (rows.length === 0) return el("p", { class: "empty" }, empty);
  const heads = columns.map((column) => {
    if (!column.sort || !onsort) return el("th", { scope: "col", class: column.kind }, column.label);
    const by = sorting?.by === column.id;
    const order = by ? (sorting.down ? "descending" : "ascending") : "none";
    const mark = by ? (sorting.down ? " ▼" : " ▲") : "";
    return el("th", { scope: "col", class: column.kind, "aria-sort": order },
      button(column.label + mark, () => onsort({ by: column.id, down: by && !sorting.down }), { class: "sort", "data-focus": `sort ${caption} ${column.id}` }));
  });
  const by = onsort && columns.find((column) => column.id === sorting?.by && column.sort);
  const sorted = by ? [...rows].sort((a, b) => compare(by.sort(a), by.sort(b)) * (sorting.down ? -1 : 1)) : rows;
  const line = (row) => el("tr", { class: key?.(row) }, columns.map((column, at) =>
    at === 0
      ? el("th", { scope: "row", class: column.kind, "data-label": column.label }, column.of(row))
      : el("td", { class: column.kind, "data-label": column.label }, column.of(row))));
  return el("div", { class: "table" }, el("table", null,
    el("caption", { class: "unseen" }, caption), el("thead", null, el("tr", null, heads)), el("tbody", null, sorted.map(line))));
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a ?? "").localeCompare(String(b ?? ""), undefined, { numeric: true });
}

/** Says something for a moment, also to screen readers. */
export function say(text, isBad) {
  const place = document.getElementById("said");
  const line = el("p", { class: isBad ? "bad" : "good" }, text);
  place.append(line);
  setTimeout(() => line.remove(), isBad ? 15000 : 6000);
}
