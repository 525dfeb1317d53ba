"use strict";
// Colours: as the system has them, unless somebody chooses.
for (const form of document.querySelectorAll("form.theme")) {
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.theme.addEventListener("change", (event) => {
    document.documentElement.dataset.theme = event.target.value;
  });
}
// Galleries: sorted and searched where they stand.
for (const form of document.querySelectorAll("form.tools")) {
  const cards = form.nextElementSibling;
  const all = [...cards.children];
  const { by, up, find } = form.elements;
  const said = form.querySelector("output");
  const number = (card) => (by.value in card.dataset ? Number(card.dataset[by.value]) : NaN);
  const sort = () => {
    const direction = up.checked ? 1 : -1;
    const sorted = all.map((card, at) => [number(card), at, card]);
    // What has no number comes last.
    sorted.sort(([a, i], [b, j]) => isNaN(a) - isNaN(b) || direction * (a - b) || i - j);
    cards.append(...sorted.map(([, , card]) => card));
  };
  const search = () => {
    const text = find.value.trim().toLowerCase();
    const fits = (card) => /^\d+$/.test(text) ? card.dataset.cluster === text : card.textContent.toLowerCase().includes(text);
    let count = 0;
    for (const card of all) {
      card.hidden = text !== "" && !fits(card);
      count += !card.hidden;
    }
    said.textContent = text === "" ? "" : count + (count === 1 ? " cluster" : " clusters");
  };
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  by.addEventListener("change", () => {
    up.checked = by.value === "cluster" || by.value === "margin";
    sort();
  });
  up.addEventListener("change", sort);
  find.addEventListener("input", search);
  // What lies below the pointer.
  cards.addEventListener("pointermove", (event) => {
    if (event.target.tagName !== "IMG") return;
    const image = event.target, box = image.getBoundingClientRect();
    const rows = Math.round((6 * image.height) / image.width) || 1;
    const slot = Math.floor(((event.clientX - box.left) / box.width) * 6) + 6 * Math.floor(((event.clientY - box.top) / box.height) * rows);
    const lines = image.closest("article").querySelector("pre").textContent.trimEnd().split("\n").map((line) => line.split("\t"));
    const border = lines.some(([kind]) => kind === "border");
    const next = { nearest: 0, border: 6, random: border ? 8 : 6, farthest: 10 };
    const line = lines.find(([kind]) => next[kind]++ === slot);
    image.title = line ? line[2] + " (" + line[0] + ", " + line[1] + ")" : "";
  });
}
