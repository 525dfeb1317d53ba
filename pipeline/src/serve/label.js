
// Names of clusters: by keys, and without leaving the page. Each form works without this as well.

/** @typedef {{said: string, version: string}} Written */
/** @typedef {{what: string, theirs: string, yours: string}} Stale */

const queue = document.querySelector('section[aria-labelledby="queue"]');
if (queue) naming(queue);

/** @param {Element} queue */
function naming(queue) {
  /** Articles that were decided about, the last one last. @type {HTMLElement[]} */
  const done = [];
  const open = () => /** @type {HTMLElement[]} */ ([...queue.querySelectorAll("article.naming:not(.done)")]);
  /** @returns {HTMLElement | null} */
  const current = () => document.activeElement?.closest("article.naming:not(.done)") ?? open()[0] ?? null;
  /** @param {HTMLElement | null | undefined} article */
  const go = (article) => {
    const link = article?.querySelector("h3 a");
    if (link instanceof HTMLElement) link.focus();
  };
  /** @param {Element} article @param {string} text @param {boolean} wrong */
  const say = (article, text, wrong) => {
    const said = article.querySelector("p.said");
    if (!(said instanceof HTMLElement)) return;
    said.hidden = text === "";
    said.textContent = text;
    said.classList.toggle("error", wrong);
  };

  /**
   * Sends what a form says, with other fields in their places if there are some.
   * @param {HTMLFormElement} form
   * @param {Record<string, string>} [fields]
   */
  const send = async (form, fields = {}) => {
    const body = new URLSearchParams();
    for (const [name, value] of new FormData(form)) body.set(name, String(value));
    for (const [name, value] of Object.entries(fields)) body.set(name, value);
    return fetch("/names", { method: "POST", body, headers: { accept: "application/json" } });
  };

  /** @param {HTMLFormElement} form @param {Record<string, string>} [fields] */
  const write = async (form, fields = {}) => {
    const article = /** @type {HTMLElement | null} */ (form.closest("article.naming"));
    const place = article ?? form.closest("tr");
    if (!place) return;
    const undo = (fields.action ?? new FormData(form).get("action")) === "undo";
    if (article && !undo) {
      // On to the next; the answer comes meanwhile.
      const all = open();
      const at = all.indexOf(article);
      article.classList.add("done");
      go(all[at + 1] ?? all[at - 1]);
    }
    try {
      const response = await send(form, fields);
      if (response.ok) {
        const told = /** @type {Written} */ (await response.json());
        for (const input of /** @type {NodeListOf<HTMLInputElement>} */ (place.querySelectorAll('input[name="version"]'))) input.value = told.version;
        if (article && undo) {
          article.classList.remove("done");
          say(article, "", false);
          go(article);
        } else if (article) {
          done.push(article);
          say(article, `${told.said}. u takes it back.`, false);
        }
        later();
        return;
      }
      article?.classList.remove("done");
      const stale = response.status === 409 ? /** @type {Stale} */ (await response.json()) : null;
      const why = stale
        ? `Somebody else changed ${stale.what} since this page was loaded: it is ${stale.theirs} now. You wrote: ${stale.yours}. Load the page again.`
        : (new DOMParser().parseFromString(await response.text(), "text/html").querySelector("main p")?.textContent ?? "It was not written.");
      if (article) say(article, why, true);
      else later(why);
    } catch {
      article?.classList.remove("done");
      if (article) say(article, "The server does not answer: this was not written.", true);
    }
  };

  let waiting = 0;
  /** Reads the page again soon: how far it is, what is decided, and what comes next. @param {string} [why] */
  const later = (why = "") => {
    clearTimeout(waiting);
    waiting = setTimeout(() => read(why), 400);
  };

  /** @param {string} why */
  const read = async (why) => {
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!response.ok) return;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const place of ["#progress", "#recent", "#names", 'section[aria-labelledby="decided"]']) {
        const [old, fresh] = [document.querySelector(place), page.querySelector(place)];
        if (old && fresh && !old.contains(document.activeElement)) old.replaceChildren(...fresh.childNodes);
      }
      if (why !== "") {
        const progress = document.getElementById("progress");
        if (progress) progress.textContent = why;
      }
      // What was decided goes, but for the last; what is new comes behind the others.
      for (const article of done.slice(0, -1)) if (!article.contains(document.activeElement)) article.hidden = true;
      const there = new Set([...queue.querySelectorAll("article.naming:not(.done)")].map((article) => article.getAttribute("data-cluster")));
      const old = new Set([...queue.querySelectorAll("article.naming.done")].map((article) => article.getAttribute("data-cluster")));
      for (const article of page.querySelectorAll("article.naming")) {
        const number = article.getAttribute("data-cluster");
        if (!there.has(number) && !old.has(number)) queue.append(article);
      }
    } catch {
      // It stays as it is.
    }
  };

  document.addEventListener("submit", (event) => {
    const form = /** @type {HTMLFormElement} */ (event.target);
    if (form.getAttribute("action") !== "/names") return;
    event.preventDefault();
    write(form);
  });

  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (target.closest("input, textarea, select, [contenteditable]")) {
      const article = target.closest("article.naming");
      if (event.key === "Escape" && article) go(/** @type {HTMLElement} */ (article));
      else if (event.key === "Escape") target.blur();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const article = current();
    const form = (/** @type {string} */ kind) => /** @type {HTMLFormElement | null} */ (article?.querySelector(`form.${kind}`) ?? null);
    const field = /** @type {HTMLInputElement | null} */ (form("name")?.elements.namedItem("value") ?? null);
    const recent = document.querySelectorAll("#recent li")[Number(event.key) - 1];
    if (event.key === "n" && field) field.focus();
    else if (event.key === "s" && form("split")) form("split")?.requestSubmit();
    else if (event.key === "x" && form("mixed")) form("mixed")?.requestSubmit();
    else if (/^[1-9]$/.test(event.key) && recent && field) {
      field.value = recent.textContent ?? "";
      form("name")?.requestSubmit();
    } else if (event.key === "u") {
      const last = done.pop();
      const undo = /** @type {HTMLFormElement | null} */ (last?.querySelector("form.mixed") ?? document.querySelector("#done form.undo"));
      if (last) last.hidden = false;
      if (undo) write(undo, { action: "undo" });
    } else if (event.key === "/") /** @type {HTMLElement | null} */ (document.querySelector("form.filter input[type=search]"))?.focus();
    else if (event.key === "?") {
      const keys = /** @type {HTMLDetailsElement | null} */ (document.getElementById("keys"));
      if (keys) keys.open = !keys.open;
    } else return;
    event.preventDefault();
  });
}
