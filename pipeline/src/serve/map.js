// The map of `/map/TABLE`: points in a canvas, to be moved, zoomed, pointed at, and chosen with a lasso.

const canvas = /** @type {HTMLCanvasElement | null} */ (document.querySelector("canvas.map"));
if (canvas) show(canvas).catch((error) => say(`The points could not be read: ${error}`));

/** @param {string} text */
function say(text) {
  const status = document.getElementById("map-status");
  if (status) status.textContent = text;
}

/** The colours of the first eight values (Okabe and Ito), and of all others. */
const HUES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00", "#7b3294"];
const REST = "#8a8a8a";

/**
 * A colour as the bytes of a pixel.
 * @param {string} hex
 */
function pixel(hex) {
  const value = Number.parseInt(hex.slice(1), 16);
  return (0xff000000 | ((value & 0xff) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

/** @param {HTMLCanvasElement} canvas */
async function show(canvas) {
  const response = await fetch(canvas.dataset.src ?? "");
  if (!response.ok) throw new Error(response.statusText);
  const buffer = await response.arrayBuffer();
  const count = new Uint32Array(buffer, 0, 1)[0];
  const [left, right, bottom, top] = new Float32Array(buffer, 4, 4);
  const [xs, ys, values] = [0, 1, 2].map((column) => new Uint16Array(buffer, 20 + 2 * count * column, count));
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  const colours = new Uint32Array(65536).fill(pixel(REST));
  HUES.forEach((hue, value) => (colours[value] = pixel(hue)));
  let image = context.createImageData(1, 1);
  let pixels = new Uint32Array(image.data.buffer);
  // Where the square of the points is in the canvas: its left upper corner, and its side.
  let view = { x: 0, y: 0, side: 1 };
  let chosen = -1;
  /** @type {[number, number][]} */
  let lasso = [];
  let waiting = false;

  function home() {
    view.side = Math.min(canvas.width, canvas.height) * 0.94;
    view.x = (canvas.width - view.side) / 2;
    view.y = (canvas.height - view.side) / 2;
  }

  function sized() {
    const scale = Math.min(devicePixelRatio || 1, 2);
    const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
    if (!width || !height || (width === canvas.width && height === canvas.height && image.width === width)) return;
    canvas.width = width;
    canvas.height = height;
    image = context.createImageData(width, height);
    pixels = new Uint32Array(image.data.buffer);
    home();
    ask();
  }

  function ask() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  }

  function draw() {
    const start = performance.now();
    const [width, height] = [canvas.width, canvas.height];
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const theme = document.documentElement.dataset.theme;
    pixels.fill(theme === "dark" || (theme !== "light" && dark) ? 0xff1a1714 : 0xffffffff);
    const [scale, x0, y0] = [view.side / 65535, view.x, view.y + view.side];
    const zoom = view.side / Math.min(width, height);
    const size = Math.max(1, Math.min(6, Math.round((count > 300000 ? 1 : count > 20000 ? 2 : 4) * Math.sqrt(Math.max(zoom, 1)))));
    /** @param {number} only */
    const pass = (only) => {
      for (let at = 0; at < count; at++) {
        const value = values[at];
        if (only >= 0 && value !== only) continue;
        const [px, py] = [(x0 + xs[at] * scale) | 0, (y0 - ys[at] * scale) | 0];
        if (px < 0 || py < 0 || px >= width - size || py >= height - size) continue;
        const colour = chosen >= 0 && value !== chosen ? colours[65535] : colours[value];
        let place = py * width + px;
        if (size === 1) pixels[place] = colour;
        else for (let row = 0; row < size; row++, place += width) for (let column = 0; column < size; column++) pixels[place + column] = colour;
      }
    };
    pass(-1);
    if (chosen >= 0) pass(chosen);
    context.putImageData(image, 0, 0);
    if (lasso.length > 1) {
      context.beginPath();
      lasso.forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.closePath();
      context.strokeStyle = "#d55e00";
      context.lineWidth = 2;
      context.stroke();
    }
    canvas.dataset.frame = (performance.now() - start).toFixed(1);
  }

  /**
   * A pointer's place in the canvas.
   * @param {MouseEvent} event
   * @returns {[number, number]}
   */
  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
  }

  /**
   * @param {number} factor
   * @param {[number, number]} about
   */
  function zoom(factor, [x, y]) {
    const side = Math.max(50, Math.min(view.side * factor, 2e6));
    const by = side / view.side;
    view = { x: x - (x - view.x) * by, y: y - (y - view.y) * by, side };
    ask();
  }

  /**
   * The corners as the points have them, from 0 to 65535.
   * @param {[number, number][]} corners
   * @returns {[number, number][]}
   */
  const within = (corners) =>
    corners.map(([x, y]) => [((x - view.x) / view.side) * 65535, ((view.y + view.side - y) / view.side) * 65535]);

  /** @param {[number, number][]} corners */
  function choose(corners) {
    const start = performance.now();
    const [px, py] = [0, 1].map((axis) => Float64Array.from(corners, (corner) => corner[axis]));
    const [low, high] = [[Math.min(...px), Math.min(...py)], [Math.max(...px), Math.max(...py)]];
    let found = 0;
    for (let at = 0; at < count; at++) {
      const [x, y] = [xs[at], ys[at]];
      if (x < low[0] || x > high[0] || y < low[1] || y > high[1]) continue;
      let odd = false;
      for (let corner = 0, before = px.length - 1; corner < px.length; before = corner++) {
        const [a, b] = [py[corner], py[before]];
        if (a > y !== b > y && x < px[corner] + ((y - a) / (b - a)) * (px[before] - px[corner])) odd = !odd;
      }
      if (odd) found++;
    }
    canvas.dataset.lasso = (performance.now() - start).toFixed(1);
    canvas.dataset.found = String(found);
    const data = corners.map(([x, y]) => [left + (x / 65535) * (right - left), bottom + (y / 65535) * (top - bottom)]);
    const polygon = data.map((corner) => corner.map((value) => String(Number(value.toPrecision(6)))).join(",")).join(" ");
    const query = `SELECT image_id FROM ${canvas.dataset.table} WHERE inside(x, y, '${polygon}')`;
    say(`About ${found} images are within.`);
    const link = /** @type {HTMLAnchorElement | null} */ (document.getElementById("map-chosen"));
    if (link) {
      link.href = `/sql?q=${encodeURIComponent(query)}`;
      link.hidden = false;
    }
    const text = document.getElementById("map-query");
    if (text) text.textContent = query;
  }

  /** @param {[number, number]} at */
  function nearest([x, y]) {
    const [[dx, dy]] = within([[x, y]]);
    const reach = (12 / view.side) * 65535;
    let [best, limit] = [-1, reach * reach];
    for (let point = 0; point < count; point++) {
      const [a, b] = [xs[point] - dx, ys[point] - dy];
      const squared = a * a + b * b;
      if (squared < limit) [best, limit] = [point, squared];
    }
    return best;
  }

  let shown = -1;
  let timer = 0;
  /** @param {number} point */
  function tell(point) {
    if (point === shown || point < 0) return;
    shown = point;
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const answer = await fetch(`${canvas.dataset.at}/${point}`);
      if (!answer.ok || point !== shown) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.getElementById("map-image")?.replaceChildren(...page.body.childNodes);
    }, 120);
  }

  const draws = /** @type {HTMLButtonElement | null} */ (document.getElementById("map-lasso"));
  draws?.addEventListener("click", () => draws.setAttribute("aria-pressed", String(draws.getAttribute("aria-pressed") !== "true")));
  /** @type {Map<number, [number, number]>} */
  const pointers = new Map();
  let drawing = false;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    drawing = pointers.size === 1 && (event.shiftKey || draws?.getAttribute("aria-pressed") === "true");
    if (drawing) lasso = [place(event)];
  });
  canvas.addEventListener("pointermove", (event) => {
    const [now, before] = [place(event), pointers.get(event.pointerId)];
    if (!before) {
      tell(nearest(now));
      return;
    }
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (drawing) {
      const last = lasso[lasso.length - 1];
      if (Math.hypot(now[0] - last[0], now[1] - last[1]) > 4) lasso.push(now);
    } else if (other) {
      const apart = (/** @type {[number, number]} */ a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
      zoom(apart(now) / Math.max(apart(before), 1), other);
    } else {
      view.x += now[0] - before[0];
      view.y += now[1] - before[1];
    }
    pointers.set(event.pointerId, now);
    ask();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      pointers.delete(/** @type {PointerEvent} */ (event).pointerId);
      if (!drawing || pointers.size) return;
      drawing = false;
      // A condition is of constant size, however long the line.
      const step = Math.ceil(lasso.length / 200);
      const corners = within(lasso.filter((_, at) => at % step === 0));
      if (corners.length >= 3) choose(corners);
      ask();
    });
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), place(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const [step, middle] = [canvas.width / 10, /** @type {[number, number]} */ ([canvas.width / 2, canvas.height / 2])];
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowLeft: () => (view.x += step),
      ArrowRight: () => (view.x -= step),
      ArrowUp: () => (view.y += step),
      ArrowDown: () => (view.y -= step),
      "+": () => zoom(1.3, middle),
      "-": () => zoom(1 / 1.3, middle),
      0: home,
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
    ask();
  });
  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("button[data-value]"))) {
    const value = Number(button.dataset.value);
    button.addEventListener("click", () => {
      chosen = chosen === value ? -1 : value;
      for (const other of document.querySelectorAll("button[data-value]")) other.setAttribute("aria-pressed", String(other === button && chosen >= 0));
      ask();
    });
    const swatch = /** @type {HTMLElement | null} */ (button.querySelector(".swatch"));
    if (swatch) swatch.style.background = HUES[value] ?? REST;
  }
  new ResizeObserver(sized).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", ask);
  new MutationObserver(ask).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  sized();
  canvas.dataset.ready = String(count);
}
