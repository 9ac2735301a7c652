// The remaining variance after each pick, the floor that no row of the pool can remove, and a line at the rank that the
// slider has set.
const canvas = element.querySelector("canvas"), hint = element.querySelector(".itl-hint"), context = canvas.getContext("2d");
let curve = JSON.parse(props.curve), rank = Infinity, waiting = false;
const color = (name, other) => getComputedStyle(element).getPropertyValue(name).trim() || other;
const percent = (share) => `${Math.round(100 * share)}%`;

function ticks(last) {
  const step = [1, 2, 5].flatMap((digit) => [0, 1, 2, 3, 4, 5].map((power) => digit * 10 ** power)).sort((a, b) => a - b).find((size) => last / size <= 6) || last;
  return Array.from({ length: Math.floor(last / step) + 1 }, (_, i) => i * step);
}

function draw() {
  waiting = false;
  const width = canvas.clientWidth, height = canvas.clientHeight, ratio = Math.min(2, window.devicePixelRatio || 1);
  if (!width) return;
  canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const ink = color("--body-text-color", "#111"), faint = color("--itl-faint", "#666"), grid = color("--border-color-primary", "#ddd");
  const box = { left: 44, right: width - 12, top: 26, bottom: height - 34 }, last = curve.mean.length - 1;
  const main = curve.target || curve.mean, high = Math.max(1, ...main);
  const x = (step) => box.left + (step / Math.max(1, last)) * (box.right - box.left), y = (share) => box.bottom - (share / high) * (box.bottom - box.top);
  context.font = "12px system-ui, sans-serif";
  context.lineWidth = 1;
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    context.strokeStyle = grid; line([[box.left, y(share)], [box.right, y(share)]]);
    context.fillStyle = faint; context.textAlign = "right"; context.fillText(percent(share), box.left - 6, y(share) + 4);
  }
  context.textAlign = "center";
  for (const step of ticks(last)) context.fillText(step, x(step), box.bottom + 15);
  context.fillText("rows picked", (box.left + box.right) / 2, height - 4);
  context.strokeStyle = "#d1495b"; context.setLineDash([5, 4]); context.lineWidth = 1.5;
  line([[box.left, y(curve.floor)], [box.right, y(curve.floor)]]);
  context.setLineDash([]);
  if (curve.target) { context.strokeStyle = faint; context.globalAlpha = 0.6; line(curve.mean.map((share, step) => [x(step), y(share)])); context.globalAlpha = 1; }
  context.strokeStyle = "#2f7ed8"; context.lineWidth = 2.2;
  line(main.map((share, step) => [x(step), y(share)]));
  const at = Math.min(rank, last);
  context.strokeStyle = ink; context.lineWidth = 1; line([[x(at), box.top], [x(at), box.bottom]]);
  context.fillStyle = "#2f7ed8"; context.beginPath(); context.arc(x(at), y(main[at]), 4.5, 0, 7); context.fill();
  context.textAlign = "left";
  const keys = [[curve.target ? `target ${curve.number}` : "all targets", "#2f7ed8"], ["floor", "#d1495b"], ...(curve.target ? [["all targets", faint]] : [])];
  let keyX = box.left;
  for (const [text, ink] of keys) { context.fillStyle = ink; context.fillRect(keyX, 8, 14, 3); context.fillText(text, keyX + 18, 14); keyX += 34 + context.measureText(text).width; }
  hint.textContent = `After ${at} of ${last} picks, ${percent(main[at])} of the variance is left. No row of this pool can remove the floor of ${curve.most ? "at most " : ""}${percent(curve.floor)}.`;
  canvas.setAttribute("aria-label", `Remaining variance by number of picked rows. ${hint.textContent}`);
}

function line(coordinates) {
  context.beginPath();
  coordinates.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
}

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(draw);
}

element.addEventListener("itl-rank", (event) => { rank = event.detail; redraw(); });
watch("curve", () => { curve = JSON.parse(props.curve); redraw(); });
new ResizeObserver(redraw).observe(canvas);
new MutationObserver(redraw).observe(document.body, { attributes: true, attributeFilter: ["class"] });
