// The map. The points of the pool are drawn as a density image (density.js), which is computed again when the view moves;
// targets and picks are drawn on top of it. nearest.js finds the point under the pointer. Text from the data is drawn as
// text or set as textContent, never as HTML. `element`, `props`, `trigger` and `watch` come from Gradio. The event
// "itl-rank" on the element sets how many picks are shown.
const canvas = element.querySelector("canvas"), tip = element.querySelector(".itl-tip"), legend = element.querySelector(".itl-legend");
const context = canvas.getContext("2d");
const STEPS = 65535, MARGIN = 22, RANKS = [[31, 122, 224], [139, 92, 246], [224, 69, 123], [240, 138, 36]];
const FIRST_COLOR = "#2f7ed8", OTHER_COLOR = "#e8791c", BOTH_COLOR = "#8b5cf6", HIT_COLOR = [22, 152, 74], NO_COLOR = 255, RAMP_STEPS = 254, MAX_LARGE_HITS = 5000;
// Ten colours of medium lightness, told apart on white and on near-black.
const NAMES = [[47, 126, 216], [232, 121, 28], [36, 158, 92], [208, 62, 100], [139, 92, 246], [150, 106, 72], [219, 103, 188], [126, 140, 30], [20, 158, 172], [214, 164, 16]];
function unpack(text, Kind) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return new Kind(bytes.buffer);
}
const points = JSON.parse(props.points), pool = unpack(points.pool, Uint16Array);
const rows = points.rows === null ? null : unpack(points.rows, Uint32Array), count = pool.length / 2;
const image = densityImage(pool), nearestOfPool = pointGrid(pool);
let marks = JSON.parse(props.marks), colors = null, inks = null, hits = null, numShown = Infinity, view = { x: 0.5, y: 0.5, zoom: 1 }, width = 0, height = 0, ratio = 1;
let stale = true, waiting = false, focus = -1, showsWords = true;
const texts = new Map(); // of rows of the pool that the pointer rested on

const color = (name) => getComputedStyle(element).getPropertyValue(name).trim();
const dark = () => document.body.classList.contains("dark");
// Pixels of one step of a coordinate, and the place of a coordinate in the canvas.
const stepX = () => ((width - 2 * MARGIN) * view.zoom) / STEPS, stepY = () => ((height - 2 * MARGIN) * view.zoom) / STEPS;
const left = (x) => width / 2 + (x - view.x * STEPS) * stepX(), top = (y) => height / 2 - (y - view.y * STEPS) * stepY();
function ramp(share) {
  const place = Math.min(RANKS.length - 1.001, Math.max(0, share * (RANKS.length - 1))), low = Math.floor(place), part = place - low;
  return RANKS[low].map((value, i) => Math.round(value + (RANKS[low + 1][i] - value) * part));
}
const rgb = (parts) => `rgb(${parts})`;
const inkOfCode = (code) => (code === NO_COLOR ? null : colors.names ? NAMES[code % NAMES.length] : ramp(code / RAMP_STEPS));

function readProps() {
  marks = JSON.parse(props.marks);
  colors = JSON.parse(props.colors);
  hits = marks.hits === null ? null : unpack(marks.hits, Uint8Array);
  const codes = colors && colors.pool ? unpack(colors.pool, Uint8Array) : null;
  // The number of each point's colour in the palette of the image; 0 has none.
  if (hits) inks = new Uint8Array(count).map((_, i) => (hits[i >> 3] >> (i & 7)) & 1);
  else inks = codes && codes.map((code) => (code === NO_COLOR ? 0 : code + 1));
}

function density() {
  const plain = dark() ? [158, 172, 190] : [96, 110, 128], palette = [plain, HIT_COLOR];
  const size = Math.max(1, Math.min(5, Math.round((count > 20000 ? 1 : count > 5000 ? 2 : 3) * ratio * Math.sqrt(view.zoom))));
  const fewHits = hits && marks.num_hits <= MAX_LARGE_HITS; // more would cover each other
  if (inks && !hits) for (let code = 0; code < NO_COLOR; code++) palette[code + 1] = inkOfCode(code) || plain;
  image.draw({
    width: Math.max(1, Math.round(width * ratio)), height: Math.max(1, Math.round(height * ratio)),
    scale: [ratio * stepX(), -ratio * stepY()], shift: [ratio * left(0), ratio * top(0)],
    sides: [size, fewHits ? Math.max(size + 1, Math.round(3 * ratio)) : size],
    codes: inks, palette, fades: [hits ? 0.82 : 0.68, fewHits ? 0.05 : 0.4],
  });
}

function disc(x, y, radius, fill, edge, line = 1) {
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  if (fill) { context.fillStyle = fill; context.fill(); }
  if (edge) { context.strokeStyle = edge; context.lineWidth = line; context.stroke(); }
}

function cross(x, y, size, edge, line) {
  context.strokeStyle = edge;
  context.lineWidth = line;
  context.beginPath();
  context.moveTo(x - size, y - size); context.lineTo(x + size, y + size);
  context.moveTo(x - size, y + size); context.lineTo(x + size, y - size);
  context.stroke();
}

function draw() {
  waiting = false;
  if (!width) return;
  if (stale) density();
  stale = false;
  const paper = color("--background-fill-primary") || "#fff", ink = color("--body-text-color") || "#111", accent = color("--color-accent") || FIRST_COLOR;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.drawImage(image.canvas, 0, 0, width, height);
  if (showsWords) drawWords(ink, paper);
  const total = marks.picks.length, visible = Math.min(total, numShown);
  if (marks.target !== null) {
    const [x, y] = points.targets[marks.target];
    for (const rank of marks.near) {
      context.strokeStyle = accent; context.lineWidth = 1; context.globalAlpha = 0.7;
      context.beginPath(); context.moveTo(left(x), top(y)); context.lineTo(left(marks.picks[rank][0]), top(marks.picks[rank][1])); context.stroke();
    }
    context.globalAlpha = 1;
  }
  // Under the picks, and a little larger, so that neither hides the other.
  for (const [x, y] of points.targets) { cross(left(x), top(y), 6, paper, 4); cross(left(x), top(y), 6, ink, 1.7); }
  for (const [x, y] of marks.others) disc(left(x), top(y), 4.5, OTHER_COLOR, paper);
  // From the last pick to the first, so that the first picks are never hidden.
  for (let rank = visible - 1; rank >= 0; rank--) {
    const [x, y, , , state] = marks.picks[rank], fill = pickColor(rank, state, total);
    context.globalAlpha = state & 1 ? 1 : 0.15;
    if (state & 2) disc(left(x), top(y), 4.5, paper, ink, 1.5); else disc(left(x), top(y), 5, fill, paper);
  }
  context.globalAlpha = 1;
  if (marks.target !== null) { const [x, y] = points.targets[marks.target]; disc(left(x), top(y), 11, null, paper, 4); disc(left(x), top(y), 11, null, accent, 2); }
  const clicked = marks.point && coordinates(marks.point[0], marks.point[1]);
  if (clicked) { disc(left(clicked[0]), top(clicked[1]), 9, null, paper, 5); disc(left(clicked[0]), top(clicked[1]), 9, null, ink, 2); }
  context.fillStyle = color("--itl-faint") || ink;
  context.font = "12px system-ui, sans-serif";
  const axes = points.explained === null ? "UMAP: near points are similar; long distances mean little" : `principal components 1 and 2: ${Math.round(100 * points.explained[0])}% and ${Math.round(100 * points.explained[1])}% of the pool's variance`;
  context.fillText(axes, 10, height - 9, width - 20);
  if (!element.dataset.drawn) performance.mark("itl-first-map"); // read by tests/report/explorer/measure.py
  element.dataset.drawn = `${count} points, ${visible} picks`;
}

function coordinates(kind, number) {
  if (kind === "pick") return marks.picks[number];
  if (kind === "target") return points.targets[number];
  if (kind === "other") return marks.others.find((other) => other[2] === number);
  const i = rows === null ? number : rows.indexOf(number);
  return i < 0 || i >= count ? null : [pool[2 * i], pool[2 * i + 1]];
}

function pickColor(rank, state, total) {
  if (colors) return rgb(inkOfCode(colors.picks[rank] ?? NO_COLOR) || [141, 153, 168]);
  return marks.names ? (state & 4 ? BOTH_COLOR : FIRST_COLOR) : rgb(ramp(total > 1 ? rank / (total - 1) : 0));
}

// The words of the largest regions first; those that would cover another label, or repeat one that is near, are left out
// until the map is closer.
function drawWords(ink, paper) {
  const boxes = [];
  context.font = "600 12px system-ui, sans-serif"; // under picks and targets
  context.textAlign = "center"; context.lineJoin = "round";
  for (const [x, y, words] of points.words) {
    const w = context.measureText(words).width, cx = Math.min(width - w / 2 - 4, Math.max(w / 2 + 4, left(x))), cy = top(y);
    const box = { words, cx, cy, low: cx - w / 2 - 4, high: cx + w / 2 + 4 };
    const covers = (other) => box.low < other.high && other.low < box.high && Math.abs(cy - other.cy) < 18;
    const repeats = (other) => words === other.words && Math.hypot(cx - other.cx, cy - other.cy) < 150;
    if (left(x) < 0 || left(x) > width || cy < 12 || cy > height - 22 || boxes.some((other) => covers(other) || repeats(other))) continue;
    boxes.push(box);
    context.strokeStyle = paper; context.lineWidth = 4; context.globalAlpha = 0.85; context.strokeText(words, cx, cy + 2);
    context.fillStyle = ink; context.globalAlpha = 0.9; context.fillText(words, cx, cy + 2);
  }
  context.textAlign = "left"; context.globalAlpha = 1;
}

function redraw(moved) {
  stale ||= moved;
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(draw);
}

function nearestPoint(x, y) {
  let best = null;
  const consider = (kind, number, px, py, reach, text) => {
    const distance = Math.hypot(left(px) - x, top(py) - y);
    if (distance <= reach && (!best || distance < best.distance)) best = { kind, number, distance, text };
  };
  points.targets.forEach(([px, py, text], i) => consider("target", i, px, py, 11, text));
  marks.picks.slice(0, numShown).forEach(([px, py, , text], i) => consider("pick", i, px, py, 11, text));
  marks.others.forEach(([px, py, i, text]) => consider("other", i, px, py, 11, text));
  if (best) return best;
  const point = nearestOfPool([view.x * STEPS + (x - width / 2) / stepX(), view.y * STEPS - (y - height / 2) / stepY()], [stepX(), stepY()], 7);
  if (point === null) return null;
  const row = rows === null ? point.number : rows[point.number];
  return { kind: "pool", number: row, distance: point.distance, text: texts.get(row) || `row ${row} of the pool` };
}

// The text of a row of the pool is asked for once the pointer rests on its point.
let resting = null, hovered = null;
function hover(point, x, y) {
  showTooltip(point, x, y);
  clearTimeout(resting);
  hovered = point && point.kind === "pool" ? { number: point.number, x, y } : null;
  if (hovered && points.has_text && !texts.has(point.number)) resting = setTimeout(() => trigger("hover", { number: point.number }), 120);
}
watch("hover", () => {
  const answer = JSON.parse(props.hover);
  if (!answer) return;
  if (texts.size > 5000) texts.clear();
  texts.set(answer.number, answer.text);
  if (hovered && hovered.number === answer.number) showTooltip({ text: answer.text }, hovered.x, hovered.y);
});

function showTooltip(point, x, y) {
  tip.hidden = !point;
  canvas.style.cursor = point ? "pointer" : "grab";
  if (!point) return;
  tip.textContent = point.text;
  tip.style.left = `${Math.max(4, Math.min(x + 12, width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > height ? Math.max(4, y - tip.offsetHeight - 12) : y + 18}px`;
}

function legendItem(text, style, extra = "") {
  const item = document.createElement("span"), sign = document.createElement("i");
  sign.className = extra;
  Object.assign(sign.style, style);
  item.append(sign, text);
  return item;
}

function drawLegend() {
  const ink = color("--body-text-color"), items = [legendItem(`pool: ${count.toLocaleString("en")} rows on the map`, { background: "#8d99a8" })];
  const sign = document.createElement("b"), cell = document.createElement("span");
  sign.textContent = "×"; cell.append(sign, `targets: ${points.targets.length}`); items.push(cell);
  if (colors) items.push(...colorItems());
  else if (!marks.names) items.push(legendItem(`picks by rank: 1 to ${marks.picks.length}`, {}, "itl-ramp"));
  else items.push(legendItem(`only in ${marks.names[0]}`, { background: FIRST_COLOR }), legendItem("in both", { background: BOTH_COLOR }), legendItem(`only in ${marks.names[1]}${marks.hidden ? ` (${marks.hidden} more are not on this map)` : ""}`, { background: OTHER_COLOR }));
  if (hits) items.push(legendItem(`contain the text: ${marks.num_hits.toLocaleString("en")} rows of the pool`, { background: rgb(HIT_COLOR) }));
  if (marks.picks.some((pick) => pick[4] & 2)) items.push(legendItem("dropped", { border: `2px solid ${ink}` }));
  legend.replaceChildren(...items);
}

function colorItems() {
  if (colors.range) return [legendItem(`${colors.label}: ${colors.range[0]} to ${colors.range[1]}`, {}, "itl-ramp")];
  const items = colors.names.map(([name, number], code) => legendItem(`${name} (${number})`, { background: rgb(NAMES[code % NAMES.length]) }));
  if (colors.others > 0) items.push(legendItem(`${colors.others} others`, { background: "#8d99a8" }));
  return items;
}

function zoom(factor, x = width / 2, y = height / 2) {
  const next = Math.min(200, Math.max(1, view.zoom * factor)), real = next / view.zoom, w = (width - 2 * MARGIN) * view.zoom, h = (height - 2 * MARGIN) * view.zoom;
  view = { x: view.x + ((x - width / 2) / w) * (1 - 1 / real), y: view.y - ((y - height / 2) / h) * (1 - 1 / real), zoom: next };
  pan(0, 0);
}

function pan(dx, dy) {
  const half = 0.5 / view.zoom, hold = (value) => Math.min(1 - half, Math.max(half, value));
  view.x = hold(view.x - dx / ((width - 2 * MARGIN) * view.zoom));
  view.y = hold(view.y + dy / ((height - 2 * MARGIN) * view.zoom));
  redraw(true);
}

function showPoint(point) { if (point) trigger("action", { do: "show", kind: point.kind, number: point.number }); }

const fingers = new Map();
let dragDistance = 0;
const local = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, local(event)); dragDistance = 0; });
canvas.addEventListener("pointermove", (event) => {
  const now = local(event), before = fingers.get(event.pointerId);
  if (!before) return hover(nearestPoint(...now), ...now);
  const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, position]) => position);
  if (others.length) {
    const [x, y] = others[0], was = Math.hypot(before[0] - x, before[1] - y), is = Math.hypot(now[0] - x, now[1] - y);
    if (was > 0) zoom(is / was, x, y);
  } else pan(now[0] - before[0], now[1] - before[1]);
  dragDistance += Math.hypot(now[0] - before[0], now[1] - before[1]);
  fingers.set(event.pointerId, now);
});
canvas.addEventListener("pointerup", (event) => {
  if (fingers.delete(event.pointerId) && dragDistance < 5) { const position = local(event), point = nearestPoint(...position); if (event.pointerType === "mouse") hover(point, ...position); showPoint(point); }
});
canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
canvas.addEventListener("pointerleave", () => hover(null));
canvas.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return; // leaves the wheel to scrolling the page
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 300), ...local(event));
}, { passive: false });
canvas.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }, last = Math.min(marks.picks.length, numShown) - 1;
  if (moves[event.key]) pan(...moves[event.key]);
  else if (event.key === "+" || event.key === "=") zoom(1.5);
  else if (event.key === "-") zoom(1 / 1.5);
  else if (event.key === "0") { view = { x: 0.5, y: 0.5, zoom: 1 }; redraw(true); }
  else if (event.key === "n" || event.key === "p") { focus = Math.min(last, Math.max(0, focus + (event.key === "n" ? 1 : -1))); showPoint({ kind: "pick", number: focus }); }
  else return;
  event.preventDefault();
});
element.querySelector(".itl-zoom").addEventListener("click", (event) => {
  const button = event.target.closest("button"), by = button?.dataset.zoom;
  if (button && "words" in button.dataset) { showsWords = !showsWords; button.setAttribute("aria-pressed", showsWords); redraw(false); }
  else if (by === "0") { view = { x: 0.5, y: 0.5, zoom: 1 }; redraw(true); } else if (by) zoom(Number(by));
});
element.addEventListener("itl-rank", (event) => { numShown = event.detail; redraw(false); });
watch(["marks", "colors"], () => {
  readProps();
  if (marks.point && marks.point[0] === "pick") focus = marks.point[1];
  drawLegend();
  redraw(true);
});
new ResizeObserver(() => {
  width = canvas.clientWidth; height = canvas.clientHeight; ratio = Math.min(2, window.devicePixelRatio || 1);
  canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  redraw(true);
}).observe(canvas);
new MutationObserver(() => { drawLegend(); redraw(true); }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
readProps();
element.querySelector("[data-words]").hidden = !points.words.length;
drawLegend();
