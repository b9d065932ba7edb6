// The plan's curve: perplexity, on a log scale, over sites removed; measured steps are dots with their intervals, a broken
// line leads through steps that are not scored yet. The ring is the mask that is set. A second curve is of recovered steps.
const SVG = "http://www.w3.org/2000/svg";
const MARGIN = 8, TOP = 8, BOTTOM = 6; // half a slider's thumb on either side, so that the ring stands over the thumb
const REACH = Math.log(100); // what is beyond a hundredfold is drawn hollow, at the top

function shape(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function drawCurve(it) {
  const svg = it.parts.curve;
  const { plan, baseline, recovery } = it.data;
  const width = svg.clientWidth, height = svg.clientHeight;
  const key = JSON.stringify([width, height, plan?.id, plan?.scores, baseline?.[0], recovery?.steps]);
  if (it.curveKey === key) return;
  it.curveKey = key;
  svg.replaceChildren();
  it.parts.ticks.replaceChildren();
  it.scale = null;
  if (!plan || !width) return;
  const known = listKnown(plan.scores), recovered = recovery ? listKnown(recovery.steps) : [];
  if (!known.length) return;
  const floor = Math.min(...known.map(({ score }) => score[0]));
  const low = Math.min(...[...known, ...recovered].map(({ score }) => score[1] ?? score[0]));
  const high = Math.min(floor + REACH, Math.max(...known.map(({ score }) => score[2] ?? score[0]), low + 0.05));
  const most = it.steps[it.steps.length - 1].removed || 1;
  const x = (removed) => MARGIN + (width - 2 * MARGIN) * Math.min(1, removed / most);
  const y = (nll) => height - BOTTOM - (height - TOP - BOTTOM) * Math.min(1, Math.max(0, (nll - low) / (high - low)));
  it.scale = { x, y, high };
  ruleValues(it, low, high, width, y);
  drawSteps(it, known, plan.scores.length, "");
  if (recovered.length > 1) drawSteps(it, recovered, plan.scores.length, " recovered");
  it.ring = shape("circle", { r: 6, class: "ring", visibility: "hidden" }, svg);
  it.square = shape("rect", { width: 10, height: 10, class: "ring recovered", visibility: "hidden" }, svg);
  it.stem = shape("line", { y1: height, class: "stem", visibility: "hidden" }, svg);
}

const listKnown = (scores) => scores.map((score, step) => score && score[0] !== null && { step, score }).filter(Boolean);

// Pruned steps are dots, recovered ones squares.
function drawSteps(it, known, steps, kind) {
  const svg = it.parts.curve;
  const { x, y, high } = it.scale;
  const at = ({ step, score }) => `${x(it.steps[step].removed).toFixed(1)},${y(score[0]).toFixed(1)}`;
  shape("polyline", { points: known.map(at).join(" "), class: (known.length === steps ? "line" : "line broken") + kind }, svg);
  known.slice(1).forEach((point, index) => {
    if (point.step - known[index].step === 1) shape("polyline", { points: `${at(known[index])} ${at(point)}`, class: `line${kind}` }, svg);
  });
  const r = it.steps.length > 80 ? 1.5 : 2.5;
  for (const { step, score } of known) {
    const cx = x(it.steps[step].removed), cy = y(score[0]);
    if (score[1] !== null) shape("line", { x1: cx, x2: cx, y1: y(score[1]), y2: y(score[2]), class: `interval${kind}` }, svg);
    const look = { class: (score[0] > high ? "dot beyond" : "dot") + kind };
    if (kind) shape("rect", { x: cx - r, y: cy - r, width: 2 * r, height: 2 * r, ...look }, svg);
    else shape("circle", { cx, cy, r, ...look }, svg);
  }
}

function ruleValues(it, low, high, width, y) {
  const steps = high - low > 3 ? [1, 3] : [1, 1.5, 2, 3, 4, 5, 7];
  let last = Infinity;
  for (let power = Math.floor(low / Math.LN10); power <= high / Math.LN10; power++) for (const step of steps) {
    const value = step * 10 ** power, nll = Math.log(value), top = y(nll);
    if (nll < low || nll > high || last - top < 14) continue;
    last = top;
    shape("line", { x1: 0, x2: width, y1: top, y2: top, class: "rule" }, it.parts.curve);
    const text = value >= 1e5 ? value.toExponential(0) : value.toLocaleString("en-US");
    const tick = Object.assign(document.createElement("span"), { textContent: text });
    tick.style.top = `${top}px`;
    it.parts.ticks.append(tick);
  }
}

function drawPoint(it, value, recovered) {
  if (!it.scale) return;
  let removed = 0;
  for (const off of it.off) removed += off;
  const left = it.scale.x(removed);
  const top = place(it, [it.ring, it.stem], value);
  if (top !== null) {
    it.ring.setAttribute("cx", left);
    it.ring.setAttribute("cy", top);
    it.stem.setAttribute("x1", left);
    it.stem.setAttribute("x2", left);
    it.stem.setAttribute("y2", top + 6);
  }
  const beside = place(it, [it.square], recovered && recovered.kind !== "stale" ? recovered : { kind: "none" });
  if (beside !== null) {
    it.square.setAttribute("x", left - 5);
    it.square.setAttribute("y", beside - 5);
  }
}

// Show or hide what marks a value; return how far down it is.
function place(it, marks, value) {
  const nowhere = value.kind === "none" || value.nll === null;
  const shown = nowhere ? "hidden" : "visible";
  for (const mark of marks) if (mark.getAttribute("visibility") !== shown) mark.setAttribute("visibility", shown);
  if (nowhere) return null;
  marks[0].setAttribute("data-kind", value.kind);
  return it.scale.y(value.nll);
}
