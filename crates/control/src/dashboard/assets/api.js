// The conversation with the server: the API's calls, the session, refusals.

/** Why a call was not carried out. */
export class Problem extends Error {
  constructor(status, problem) {
    super(problem.text || `HTTP ${status}`);
    this.status = status;
    this.code = problem.code ?? "";
    this.remedy = problem.remedy ?? "";
    this.details = problem.details ?? {};
  }
}

let session = null;

/** Reads who is logged in. */
export async function knowSession() {
  session = (await call("GET", "session")).body;
  return session;
}

export const visitor = () => session;
export const mayAct = () => session?.role === "operator";

/** Ends the login. */
export async function logOut() {
  await call("DELETE", "session");
  location.reload();
}

/** Asks for something. */
export async function get(path, parameters) {
  const query = new URLSearchParams(Object.entries(parameters ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== ""));
  const tail = query.toString();
  return (await call("GET", tail ? `${path}?${tail}` : path)).body;
}

/** Gives an order. Returns the answer, and its ETag. */
export async function order(method, path, body, headers) {
  return call(method, path, body, { "idempotency-key": `page-${random()}`, ...headers });
}

async function call(method, path, body, headers) {
  const init = { method, headers: { ...headers }, credentials: "same-origin", cache: "no-store", redirect: "error" };
  if (method !== "GET") init.headers["x-pointsman-csrf"] = session?.csrf ?? "";
  if (body !== undefined) {
    init.headers["content-type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, init);
  } catch {
    throw new Problem(0, { code: "unreachable", text: "the server does not answer", remedy: "it is asked again until it does" });
  }
  // A server that was started anew knows no one: the page that asks who is there comes instead of this one.
  if (response.status === 401 && path !== "session") location.reload();
  const text = await response.text();
  let parsed = null;
  try {
    parsed = text ? JSON.parse(text) : null;
  } catch {
    // A page of something in between.
  }
  if (!response.ok) throw new Problem(response.status, parsed ?? { text: `the server answered ${response.status}` });
  return { body: parsed, tag: response.headers.get("etag") };
}

/** 128 random bits; `crypto.randomUUID` is there over TLS alone. */
function random() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Encodes a part of a path. The empty key is an empty part. */
export const part = encodeURIComponent;
