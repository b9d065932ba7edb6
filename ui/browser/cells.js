// The strip: two rows of cells, attention and MLP, and the layer numbers under them. Every one is a switch.
const PARTS = ["attention", "MLP"];

function buildCells(it) {
  const { layers, grid } = it;
  grid.style.setProperty("--layers", layers);
  grid.dataset.density = layers > 64 ? "high" : layers > 36 ? "middle" : "low";
  for (const element of grid.querySelectorAll(".cell, .number, .gutter.part")) element.remove();
  it.cells = [];
  it.numbers = [];
  PARTS.forEach((part, row) => {
    grid.append(gutter(row ? "MLP" : "Attention"));
    for (let layer = 0; layer < layers; layer++) {
      const cell = switchFor("cell", row * layers + layer, `${part} of layer ${layer}`);
      it.cells.push(grid.appendChild(cell));
    }
  });
  grid.append(gutter("Layer"));
  for (let layer = 0; layer < layers; layer++) {
    const number = switchFor("number", layer, `layer ${layer}`);
    number.append(Object.assign(document.createElement("span"), { textContent: layer, className: "digits" }));
    it.numbers.push(grid.appendChild(number));
  }
  it.rows = [it.cells.slice(0, layers), it.cells.slice(layers), it.numbers];
  it.cells[0].tabIndex = 0;
  listenToCells(it);
}

function gutter(text) {
  return Object.assign(document.createElement("span"), { className: "gutter part", textContent: text });
}

function switchFor(kind, index, name) {
  const element = Object.assign(document.createElement("button"), { type: "button", className: kind, tabIndex: -1 });
  element.dataset[kind] = index;
  element.setAttribute("role", "switch");
  element.setAttribute("aria-label", name);
  return element;
}

const nearest = (event) => event.target.closest?.(".cell, .number");

function listenToCells(it) {
  const { grid, root } = it;
  grid.onpointerdown = (event) => {
    const target = nearest(event);
    if (!target || event.button) return;
    event.preventDefault();
    const anchor = it.anchor;
    focusOn(it, target);
    if (event.shiftKey && anchor && rowOf(it, anchor) === rowOf(it, target)) {
      stretch(it, anchor, target, isOff(it, anchor));
      commit(it);
      return;
    }
    it.gesture = { off: !isOff(it, target), last: target };
    grid.setPointerCapture(event.pointerId);
    paint(it, [target], it.gesture.off);
    repaint(it);
  };
  grid.onpointermove = (event) => {
    if (!it.gesture?.last) return;
    const target = root.elementFromPoint(event.clientX, event.clientY)?.closest(".cell, .number");
    if (!target || target === it.gesture.last) return;
    // A fast pointer skips cells: paint all from the last one on the same row.
    const from = rowOf(it, it.gesture.last) === rowOf(it, target) ? it.gesture.last : target;
    if ((target.className === "number") !== (it.gesture.last.className === "number")) return;
    stretch(it, from, target, it.gesture.off);
    it.gesture.last = it.anchor = target;
  };
  grid.onpointerup = grid.onpointercancel = () => {
    if (!it.gesture?.last) return;
    it.gesture = null;
    commit(it);
  };
  // Pointer gestures are handled above; a click without one comes from assistive technology.
  grid.onclick = (event) => {
    const target = nearest(event);
    if (target && event.detail === 0) toggle(it, target);
  };
  grid.onkeydown = (event) => {
    const target = nearest(event);
    if (!target || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      toggle(it, target);
      return;
    }
    const to = neighbour(it, target, event.key);
    if (!to) return;
    event.preventDefault();
    if (event.shiftKey) {
      stretch(it, target, to, isOff(it, target));
      focusOn(it, to);
      commit(it);
    } else focusOn(it, to);
  };
}

function neighbour(it, from, key) {
  const row = rowOf(it, from);
  const column = it.rows[row].indexOf(from);
  return {
    ArrowLeft: it.rows[row][column - 1], ArrowRight: it.rows[row][column + 1],
    ArrowUp: it.rows[row - 1]?.[column], ArrowDown: it.rows[row + 1]?.[column],
    Home: it.rows[row][0], End: it.rows[row][it.layers - 1],
  }[key];
}

const rowOf = (it, target) => it.rows.findIndex((row) => row.includes(target));

function focusOn(it, target) {
  for (const element of [...it.cells, ...it.numbers]) element.tabIndex = -1;
  target.tabIndex = 0;
  it.anchor = target;
  target.focus({ preventScroll: true });
}

const cellsOf = (it, target) =>
  target.className === "cell"
    ? [Number(target.dataset.cell)]
    : [Number(target.dataset.number), it.layers + Number(target.dataset.number)];

const isOff = (it, target) => cellsOf(it, target).every((cell) => it.off[cell]);

function paint(it, targets, off) {
  for (const target of targets) for (const cell of cellsOf(it, target)) it.off[cell] = off;
}

function stretch(it, from, to, off) {
  const row = it.rows[rowOf(it, to)] ?? [];
  const [start, end] = [row.indexOf(from), row.indexOf(to)].sort((a, b) => a - b);
  const vertical = start < 0; // from another row: the new cell alone
  paint(it, vertical ? [to] : row.slice(start, end + 1), off);
  repaint(it);
}

function toggle(it, target) {
  it.anchor = target;
  paint(it, [target], !isOff(it, target));
  repaint(it);
  commit(it);
}

// Write only what changed: a drag calls this for every move.
function drawCells(it) {
  for (let index = 0; index < it.cells.length; index++) {
    const state = it.off[index] ? "false" : "true";
    if (it.shown[index] !== state) {
      it.shown[index] = state;
      it.cells[index].setAttribute("aria-checked", state);
      const number = it.numbers[index % it.layers];
      number.setAttribute("aria-checked", String(!isOff(it, number)));
    }
  }
}

function colourCells(it, measure) {
  it.cells.forEach((cell, index) => {
    cell.style.setProperty("--colour", measure?.colours[index] ?? "var(--st-secondary-background-color)");
    cell.title = cell.getAttribute("aria-label") + (measure?.notes[index] ? `: ${measure.notes[index]}` : "");
  });
  it.numbers.forEach((number) => { number.title = number.getAttribute("aria-label"); });
}
