// Who is there? A token that is typed, or the one-time secret behind the # of the address that `pointsman dashboard` printed.

const form = document.querySelector("form");
const said = document.getElementById("said");
const secret = /^#secret=([0-9a-f]{64})$/.exec(location.hash)?.[1];

function show(text) {
  said.textContent = text;
  form.hidden = false;
  form.elements.secret.focus();
}

/** The page itself: the same address, which has a session now. */
function go() {
  const place = location.pathname + (secret ? "" : location.hash);
  history.replaceState(null, "", place);
  location.reload();
}

async function logIn(text) {
  form.setAttribute("aria-busy", "true");
  try {
    const response = await fetch("session", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ secret: text }), credentials: "same-origin",
    });
    if (response.ok) return go();
    const problem = await response.json().catch(() => ({ text: `the server answered ${response.status}` }));
    show(`${problem.text}. ${problem.remedy ?? ""}`);
  } catch {
    show("The server does not answer.");
  } finally {
    form.removeAttribute("aria-busy");
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = form.elements.secret.value;
  form.elements.secret.value = "";
  logIn(text);
});

if (secret) {
  // It is in no list of addresses any more.
  history.replaceState(null, "", location.pathname);
  logIn(secret);
} else {
  // A link of another site brings no session along, and the page itself does.
  fetch("session", { credentials: "same-origin" }).then((response) => (response.ok ? go() : show("")), () => show("The server does not answer."));
}
