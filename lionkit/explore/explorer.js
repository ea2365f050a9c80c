// Brings an explorer's page to life: sends what a reader does, shows what the kernel answers. No other module, no network.
// Keys stay inside: JupyterLab walks up from the element that has the focus and stops at `data-lm-suppress-shortcuts`.

const FOCUSABLE = "button, input, select, textarea, summary, a, canvas, [tabindex]";
const STEPS = { ArrowDown: "+1", ArrowUp: "-1", PageDown: "+page", PageUp: "-page", Home: "first", End: "last" };
const WAIT = 4000; // milliseconds until a reader is told that nobody answers

function wake(model, page) {
  if (page.classList.contains("live")) return;
  page.classList.add("live");
  page.tabIndex = -1; // a click on bare text stays inside, too
  const me = `lk${Math.random().toString(36).slice(2)}`;
  const map = { page, send: (on, value) => send(on, value) };
  let waiting = null;
  const queue = new Map(); // of each control only the latest, so that a slider never runs ahead of the kernel

  function send(on, value) {
    queue.set(on, value);
    if (waiting === null) next();
  }
  function next() {
    const [first] = queue;
    if (!first) return;
    queue.delete(first[0]);
    page.setAttribute("aria-busy", "true");
    waiting = setTimeout(() => tell("The kernel does not answer. If it is busy, wait; if it was restarted, run this cell again."), WAIT);
    model.send({ on: first[0], value: first[1], from: me });
  }
  function tell(text) {
    const note = document.createElement("div");
    note.className = "error";
    note.setAttribute("role", "alert");
    note.textContent = text;
    page.querySelector("[data-region=message]")?.replaceChildren(note);
  }
  function show(regions) {
    for (const [name, html] of Object.entries(regions)) {
      const region = page.querySelector(`[data-region="${name}"]`);
      if (!region) continue;
      const had = region.contains(document.activeElement) ? document.activeElement : null;
      const at = had && ["text", "search"].includes(had.type) ? had.selectionStart : null;
      const open = [...region.querySelectorAll("details[open][id]")].map((each) => each.id);
      region.innerHTML = html;
      for (const id of open) region.querySelector(`details[id="${id}"]`)?.setAttribute("open", "");
      if (!had) continue;
      const same = (node) => node.dataset.on === had.dataset.on && node.name === had.name;
      const nodes = [...region.querySelectorAll(FOCUSABLE)].filter(same);
      const now = nodes.find((node) => node.value === had.value) ?? nodes[0] ?? page;
      if (at !== null && now.value !== undefined) [now.value, now.selectionStart, now.selectionEnd] = [had.value, at, at];
      now.focus({ preventScroll: true });
    }
    for (const list of page.querySelectorAll("[role=listbox]:not([data-named])")) {
      list.dataset.named = "yes"; // several explorers on one page have lists of the same name
      for (const row of list.children) row.id = `${me}-${row.id}`;
      const at = list.getAttribute("aria-activedescendant");
      if (at) list.setAttribute("aria-activedescendant", `${me}-${at}`);
    }
    for (const node of [page, ...page.querySelectorAll(FOCUSABLE)]) node.setAttribute("data-lm-suppress-shortcuts", "true");
  }

  model.on("msg:custom", (message, buffers) => {
    if (message.regions) show(message.regions);
    (message.buffers ?? []).forEach((name, n) => { map[name] = buffers[n]; });
    const canvas = page.querySelector("canvas");
    if (canvas && map.points) draw(map, canvas);
    if (message.answered !== me) return;
    clearTimeout(waiting);
    waiting = null;
    if (!queue.size) page.setAttribute("aria-busy", "false");
    next();
  });

  const control = (event) => event.target.closest("[data-on]");
  page.addEventListener("input", (event) => {
    const node = control(event);
    if (node?.matches("input, select")) send(node.dataset.on, node.type === "checkbox" ? node.checked : node.value);
  });
  page.addEventListener("click", (event) => {
    const node = control(event);
    const row = event.target.closest("[data-value]");
    if (node?.matches("button")) send(node.dataset.on, node.value);
    else if (row && node) send(node.dataset.on, row.dataset.value);
  });
  page.addEventListener("submit", (event) => {
    event.preventDefault();
    send(event.target.dataset.on, Object.fromEntries(new FormData(event.target)));
  });
  page.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const list = event.target.closest("[role=listbox]");
    if (!list || !STEPS[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    send(list.dataset.on, STEPS[event.key]);
  });
  const clock = setInterval(() => {
    const node = page.querySelector("[data-every]");
    if (node && page.isConnected && waiting === null) send(node.dataset.every, null);
  }, 1000);
  show({});
  send("open", null);
  return () => clearInterval(clock);
}

// The map: points as pairs of float32 in [-1, 1], a colour's place for each, its highest bit set where it is chosen.
function draw(map, canvas) {
  const [xy, codes] = [numbers(map.points), new Uint8Array(map.codes.buffer, map.codes.byteOffset, map.codes.byteLength)];
  const colours = JSON.parse(canvas.dataset.colours);
  map.view ??= { x: 0, y: 0, zoom: 1 };
  const view = map.view;
  const [width, height, dense] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio || 1];
  if (!width) return void requestAnimationFrame(() => canvas.isConnected && draw(map, canvas));
  const across = (x) => width / 2 + (x - view.x) * (width / 2) * view.zoom;
  const down = (y) => height / 2 + (y - view.y) * (height / 2) * view.zoom;
  canvas.width = width * dense;
  canvas.height = height * dense;
  const pen = canvas.getContext("2d");
  const ink = getComputedStyle(canvas).color;
  pen.scale(dense, dense);
  const size = Math.max(2, Math.min(6, (200 * Math.sqrt(view.zoom)) / Math.sqrt(codes.length)));
  for (const chosen of [0, 128]) {
    colours.forEach((colour, code) => {
      pen.fillStyle = colour;
      const edge = size + (chosen ? 3 : 0);
      for (let n = 0; n < codes.length; n++) {
        if (codes[n] !== code + chosen) continue;
        const [x, y] = [across(xy[2 * n]) - edge / 2, down(xy[2 * n + 1]) - edge / 2];
        if (x < -edge || y < -edge || x > width || y > height) continue;
        if (chosen) {
          pen.fillStyle = ink;
          pen.fillRect(x - 1, y - 1, edge + 2, edge + 2);
          pen.fillStyle = colour;
        }
        pen.fillRect(x, y, edge, edge);
      }
    });
  }
  if (map.lasso?.length) {
    pen.strokeStyle = ink;
    pen.beginPath();
    map.lasso.forEach(([x, y]) => pen.lineTo(across(x), down(y)));
    pen.stroke();
  }
  canvas.dataset.drawn = String(Number(canvas.dataset.drawn ?? 0) + 1);
  if (map.canvas !== canvas) steer(map, canvas);
}

// Moves the map: drag, wheel, keys; a lasso, a point and what is in view are sent to the kernel.
function steer(map, canvas) {
  map.canvas = canvas;
  const view = map.view;
  const again = () => {
    map.frame ??= requestAnimationFrame(() => {
      map.frame = null;
      draw(map, map.canvas);
    });
  };
  const half = () => [(canvas.clientWidth / 2) * view.zoom, (canvas.clientHeight / 2) * view.zoom];
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const point = ([px, py]) => [
    (px - canvas.clientWidth / 2) / half()[0] + view.x,
    (py - canvas.clientHeight / 2) / half()[1] + view.y,
  ];
  const nearest = ([x, y]) => {
    let [best, found] = [8 ** 2, null]; // pixels
    const [all, [w, h]] = [numbers(map.points), half()];
    for (let n = 0; n < all.length / 2; n++) {
      const far = ((all[2 * n] - x) * w) ** 2 + ((all[2 * n + 1] - y) * h) ** 2;
      if (far < best) [best, found] = [far, n];
    }
    return found;
  };
  const zoom = (by) => {
    view.zoom = Math.min(200, Math.max(0.5, view.zoom * by));
    again();
  };
  let start = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    start = { at: place(event), view: { ...view }, moved: false };
    map.lasso = event.shiftKey || canvas.dataset.tool === "lasso" ? [point(start.at)] : null;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [px, py] = place(event);
    start.moved ||= Math.hypot(px - start.at[0], py - start.at[1]) > 3;
    if (map.lasso) map.lasso.push(point([px, py]));
    else [view.x, view.y] = [start.view.x - (px - start.at[0]) / half()[0], start.view.y - (py - start.at[1]) / half()[1]];
    again();
  });
  canvas.addEventListener("pointerup", (event) => {
    const [outline, moved] = [map.lasso, start?.moved];
    start = map.lasso = null;
    const n = moved ? null : nearest(point(place(event)));
    if (outline && moved) map.send("lasso", outline);
    else if (n !== null) map.send("point", n);
    again();
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (document.activeElement !== canvas) return; // the page scrolls until the map was clicked
      event.preventDefault();
      zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2);
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (move) {
      view.x += (0.15 / view.zoom) * move[0];
      view.y += (0.15 / view.zoom) * move[1];
      again();
    } else if (event.key === "+" || event.key === "=") zoom(1.4);
    else if (event.key === "-") zoom(1 / 1.4);
    else if (event.key === "0") {
      Object.assign(view, { x: 0, y: 0, zoom: 1 });
      again();
    } else if (event.key === "Enter") {
      const [w, h] = [canvas.clientWidth, canvas.clientHeight];
      map.send("lasso", [[0, 0], [w, 0], [w, h], [0, h]].map(point));
    } else return;
    event.preventDefault();
  });
  new ResizeObserver(again).observe(canvas);
}

const numbers = (view) => new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

export default {
  initialize({ model }) {
    const found = () => document.querySelectorAll(`[data-lk="${model.get("key")}"]:not(.live)`).forEach((page) => wake(model, page));
    const watch = new MutationObserver(found);
    watch.observe(document.documentElement, { childList: true, subtree: true });
    model.on("change:key", found);
    found();
    return () => watch.disconnect();
  },
  render({ model, el }) {
    el.innerHTML = model.get("page");
    wake(model, el.querySelector("[data-lk]"));
  },
};
