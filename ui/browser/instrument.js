// The instrument: triangle, strip, slider, curve, readout and meter as one. Streamlit calls the default export again on every data
// or theme change, on the same root and with no clean-up between: state lives beside the root, and handlers are assigned,
// never added. While a gesture lasts nothing is sent; its end is one message.
const INSTRUMENTS = new WeakMap();

function build(root, layers) {
  const part = (name) => root.querySelector(`[data-part=${name}]`);
  const names = ["readouts", "name", "value", "tag", "interval", "detail", "bits", "whole", "legend", "live",
    "recoveredValue", "recoveredTag", "recoveredInterval", "recoveredDetail", "meter", "context", "speedBefore", "speedAfter", "speedNote",
    "measureSpeed", "blocks", "aim", "aimed", "sizes", "scale", "influence", "curve", "ticks", "awaited", "slider", "step", "progress", "undo", "redo", "clear",
    "tour", "tourTitle", "tourText", "tourNext", "tourSkip"];
  const it = {
    root, layers, grid: part("strip"), parts: Object.fromEntries(names.map((name) => [name, part(name)])),
    off: new Array(2 * layers).fill(false), shown: [], revision: -1, gesture: null, anchor: null, undone: [], redone: [],
    committed: "", bits: BITS[0], steps: [], stepOf: new Map(), scale: null, planId: null, said: "",
  };
  buildCells(it);
  buildBlocks(it);
  listen(it);
  beginTour(it);
  it.resized?.disconnect();
  it.resized = new ResizeObserver(() => { if (it.data) { drawBlocks(it); drawCurve(it); repaint(it); } });
  it.resized.observe(it.parts.curve);
  return it;
}

function listen(it) {
  const { slider, context, undo, redo, clear, measureSpeed } = it.parts;
  slider.oninput = () => {
    const step = it.steps[Number(slider.value)];
    if (!step) return;
    it.gesture ??= {};
    it.off = step.off.slice();
    repaint(it);
  };
  // A drag that ends where it began makes no change event.
  slider.onchange = slider.onpointerup = slider.onpointercancel = slider.onblur = () => {
    it.gesture = null;
    commit(it);
  };
  context.onchange = () => {
    buildMeter(it, it.data.meter);
    drawMeter(it);
  };
  undo.onclick = () => goBack(it, it.undone, it.redone);
  redo.onclick = () => goBack(it, it.redone, it.undone);
  clear.onclick = () => {
    it.off.fill(false);
    repaint(it);
    commit(it);
  };
  measureSpeed.onclick = () => it.trigger("decode_speed", true);
  it.root.querySelector(".instrument").onkeydown = (event) => {
    event.stopPropagation(); // Streamlit has shortcuts of its own
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
    event.preventDefault();
    if (event.shiftKey) goBack(it, it.redone, it.undone);
    else goBack(it, it.undone, it.redone);
  };
}

// Say the value that belongs to the mask at rest: at once, and again when it has been measured.
function speak(it) {
  const value = valueOf(it, it.committed);
  const recovered = it.data.recovery ? recoveredOf(it, it.committed) : null;
  const said = it.committed + value.kind + recovered?.kind;
  if (said === it.said || it.gesture) return;
  it.said = said;
  announce(it, value, recovered);
}

function repaint(it) {
  const key = keyOf(it.off);
  const value = valueOf(it, key);
  drawCells(it);
  drawRuns(it);
  drawReadout(it, value);
  const recovered = drawRecovered(it, value, key);
  drawMeter(it);
  drawPoint(it, value, recovered);
  drawSlider(it, key, value, recovered);
}

function drawSlider(it, key, value, recovered) {
  const { slider, step } = it.parts;
  const removed = it.off.filter(Boolean).length;
  const at = it.stepOf.get(key);
  if (!it.gesture || it.gesture.last) {
    const nearest = at ?? it.steps.findLastIndex((s) => s.removed <= removed);
    if (nearest >= 0 && Number(slider.value) !== nearest) slider.value = nearest;
  }
  const share = `${removed} of ${it.off.length} sites removed, ${((100 * removed) / it.off.length).toFixed(1)}%`;
  const words = it.steps.length && at === undefined ? `${share}, not on the plan` : share;
  write(step, words);
  const text = `${words}; ${inWords(value, recovered)}`;
  if (slider.getAttribute("aria-valuetext") !== text) slider.setAttribute("aria-valuetext", text);
}

function drawLegend(it) {
  const by = it.scale && it.data.recovery ? it.data.recovery.by : "";
  if (it.parts.legend.dataset.by === by) return;
  it.parts.legend.dataset.by = by;
  const swatch = () => document.createElement("i");
  it.parts.legend.replaceChildren(...(by ? ["Perplexity:", swatch(), "pruned", swatch(), `recovered: ${by}`] : ["Perplexity along the plan"]));
}

function take(it, data) {
  it.data = data;
  it.rate = null;
  if (it.planId !== (data.plan?.id ?? null)) {
    it.planId = data.plan?.id ?? null;
    indexPlan(it, data.plan);
    it.parts.slider.max = Math.max(1, it.steps.length - 1);
    it.parts.slider.disabled = !it.steps.length;
  }
  const look = JSON.stringify(data.measure);
  if (it.look !== look) {
    it.look = look;
    colourCells(it, data.measure);
  }
  const costs = JSON.stringify(data.meter);
  if (it.costs !== costs) {
    it.costs = costs;
    buildMeter(it, data.meter);
  }
  if (it.model !== data.model) recall(it, data.model);
  if (data.revision > it.revision && !it.gesture) {
    it.revision = data.revision;
    it.off = [...data.off].map((cell) => cell === "1");
    if (it.committed && it.committed !== data.off) {
      it.undone.push(it.committed);
      it.redone = [];
    }
    it.committed = data.off;
    remember(it);
  }
}

function paintInstrument({ parentElement: root, data, setStateValue, setTriggerValue }) {
  let it = INSTRUMENTS.get(root);
  if (!it || it.layers !== data.layers || !it.grid.isConnected) {
    it = build(root, data.layers);
    INSTRUMENTS.set(root, it);
  }
  it.send = setStateValue;
  it.trigger = setTriggerValue;
  take(it, data);
  drawPace(it);
  drawHistory(it);
  drawBlocks(it);
  describeAim(it);
  drawCurve(it);
  drawLegend(it);
  write(it.parts.awaited, it.scale ? "" : data.progress || "No plan");
  write(it.parts.progress, it.scale ? data.progress : ""); // once, in the one place or the other
  repaint(it);
  speak(it);
}

export default live(paintInstrument);
