// Where on the page one is. It is in the address, so that it can be kept, sent to others, and gone back from.

const VIEWS = ["routes", "timeline", "groups", "history", "compare"];
const listeners = [];

/** Returns the view, and its parameters. */
export function place() {
  const [view, query] = location.hash.replace(/^#/, "").split("?");
  return { view: VIEWS.includes(view) ? view : VIEWS[0], parameters: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

/** Returns the address of a place. */
export function address(view, parameters) {
  const query = new URLSearchParams(Object.entries(parameters ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== ""));
  const tail = query.toString();
  return `#${view}${tail ? `?${tail}` : ""}`;
}

/** Changes parameters of the view. A step that one may want to go back from is kept in the browser's history. */
export function change(parameters, isStep) {
  const now = place();
  const target = address(now.view, { ...now.parameters, ...parameters });
  if (target === location.hash) return;
  if (isStep) history.pushState(null, "", target);
  else history.replaceState(null, "", target);
  listeners.forEach((listener) => listener());
}

export function whenMoved(listener) {
  listeners.push(listener);
  addEventListener("hashchange", listener);
  addEventListener("popstate", listener);
}
