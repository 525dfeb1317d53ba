// What pages do beside what their HTML does: each works without this, but for what a browser cannot do without a script.

/** @typedef {{stage: string, done: number, total: number, seconds: number, note: string}} Stage */
/** @typedef {{id: string, killed: boolean, stages: Stage[]}} Run */
/** @typedef {{version: string, run: Run | null}} Told */

const main = /** @type {HTMLElement} */ (document.querySelector("main"));

// Colours: as the system has them, unless somebody chooses.
const KEY = "tessera-theme";

/** @returns {string} */
function chosen() {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

document.documentElement.dataset.theme = chosen();
for (const form of /** @type {NodeListOf<HTMLFormElement>} */ (document.querySelectorAll("form.theme"))) {
  const select = /** @type {HTMLSelectElement} */ (form.elements.namedItem("theme"));
  select.value = chosen();
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  select.addEventListener("change", () => {
    document.documentElement.dataset.theme = select.value;
    try {
      localStorage.setItem(KEY, select.value);
    } catch {
      // It holds for this page.
    }
  });
}

// A live page: it hears of runs, and is read again when there is something else to show.

/**
 * A section without what a reader opened in it.
 * @param {Element} section
 */
function closed(section) {
  const copy = /** @type {Element} */ (section.cloneNode(true));
  for (const details of copy.querySelectorAll("details")) details.removeAttribute("open");
  return copy.outerHTML;
}

/**
 * Puts a new section in an old one's place; what was open stays so, and the focus where it was.
 * @param {Element} old
 * @param {Element} fresh
 */
function replace(old, fresh) {
  if (closed(old) === closed(fresh)) return;
  const open = [...old.querySelectorAll("details")].map((details) => details.open);
  [...fresh.querySelectorAll("details")].forEach((details, at) => (details.open = open[at] ?? false));
  const focusable = "a, button, input, select, summary, textarea, [tabindex]";
  const at = document.activeElement ? [...old.querySelectorAll(focusable)].indexOf(document.activeElement) : -1;
  old.replaceWith(fresh);
  const again = fresh.querySelectorAll(focusable)[at];
  if (at >= 0 && again instanceof HTMLElement) again.focus({ preventScroll: true });
}

let reading = false;
let stale = false;

async function refresh() {
  stale = true;
  if (reading) return;
  reading = true;
  while (stale && !document.hidden) {
    stale = false;
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" } });
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.querySelector("main");
      if (response.ok && fresh) {
        const [before, after] = [[...main.children], [...fresh.children]];
        if (before.length === after.length) before.forEach((old, place) => replace(old, after[place]));
        else main.replaceChildren(...after);
      }
    } catch {
      // The server is gone; the page shows what it shows.
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  reading = false;
}

/** @param {Run | null} run */
function show(run) {
  const place = document.getElementById("live");
  const [said, list] = [place?.querySelector("p"), place?.querySelector("ul")];
  if (!place || !said || !list) return;
  place.hidden = run === null;
  const text = run === null ? "" : run.killed ? "The last run was killed before it was done." : "A run is under way.";
  if (said.textContent !== text) said.textContent = text;
  const rows = (run?.stages ?? []).map((stage) => {
    const [row, name, bar, note] = ["li", "bdi", "progress", "span"].map((tag) => document.createElement(tag));
    name.textContent = stage.stage;
    bar.setAttribute("aria-label", stage.stage);
    if (stage.total > 0) {
      bar.setAttribute("max", String(stage.total));
      bar.setAttribute("value", String(Math.min(stage.done, stage.total)));
    } else if (run?.killed) bar.setAttribute("value", "0");
    const of = stage.total > 0 ? `${stage.done} of ${stage.total}` : `${stage.done}`;
    note.textContent = [of, `${stage.seconds} s`, stage.note].filter((part) => part !== "").join(", ");
    row.append(name, bar, note);
    return row;
  });
  list.replaceChildren(...rows);
}

if (main?.dataset.live !== undefined) {
  /** @type {EventSource | null} */
  let source = null;
  let version = "";
  const listen = () => {
    if (document.hidden) {
      source?.close();
      source = null;
      return;
    }
    if (source) return;
    source = new EventSource("/events");
    source.addEventListener("message", (event) => {
      const told = /** @type {Told} */ (JSON.parse(event.data));
      show(told.run);
      if (version !== "" && version !== told.version) refresh();
      version = told.version;
    });
  };
  document.addEventListener("visibilitychange", listen);
  addEventListener("pagehide", () => {
    source?.close();
    source = null;
  });
  addEventListener("pageshow", listen);
  listen();
}

// Keys: j and k go from cluster to cluster, unless a field has the focus.
document.addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.closest("textarea") && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    target.closest("form")?.requestSubmit();
    return;
  }
  const writes = target.closest("input, textarea, select, [contenteditable]");
  if (writes || event.ctrlKey || event.metaKey || event.altKey || !["j", "k"].includes(event.key)) return;
  const cards = [...document.querySelectorAll("article.card:not(.done) h3 a")];
  const at = cards.findIndex((link) => link.closest("article")?.contains(document.activeElement));
  const next = cards[event.key === "j" ? at + 1 : Math.max(at - 1, 0)];
  if (next instanceof HTMLElement) next.focus();
});

// An image that is dropped or chosen is sent, and the page that comes back stands in this one's place.
const token = document.querySelector('meta[name="tessera-token"]')?.getAttribute("content") ?? "";
for (const form of /** @type {NodeListOf<HTMLFormElement>} */ (document.querySelectorAll("form.drop"))) prepare(form);

/** @param {HTMLFormElement} form */
function prepare(form) {
  form.hidden = false;
  const input = /** @type {HTMLInputElement} */ (form.querySelector("input"));
  const said = /** @type {HTMLOutputElement} */ (form.querySelector("output"));

  /** @param {File | undefined} file */
  const send = async (file) => {
    if (!file) return;
    said.textContent = "Looking for the nearest images …";
    const kind = /^image\/[a-z0-9.+-]+$/.test(file.type) ? file.type : "application/octet-stream";
    try {
      const response = await fetch(form.dataset.find ?? "/find", {
        method: "POST",
        body: file,
        headers: { "content-type": kind, "x-tessera-token": token },
      });
      const text = await response.text();
      const page = new DOMParser().parseFromString(text, "text/html");
      const found = page.querySelector("main");
      if (response.ok && found) {
        main.replaceChildren(...found.children);
        for (const again of /** @type {NodeListOf<HTMLFormElement>} */ (main.querySelectorAll("form.drop"))) prepare(again);
      } else said.textContent = found?.querySelector("p")?.textContent ?? text;
    } catch {
      said.textContent = "The server does not answer.";
    }
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("change", () => send(input.files?.[0]));
  form.addEventListener("dragover", (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    send(event.dataTransfer?.files[0]);
  });
}
