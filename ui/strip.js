// The layer strip. Streamlit calls the default export again on every data or theme change, on the same root and with
// no clean-up between: state lives beside the root, and handlers are assigned, never added.
const STRIPS = new WeakMap();
const PARTS = ["attention", "MLP"];

function build(root, layers) {
  const grid = root.querySelector(".strip");
  const strip = { grid, layers, off: [], revision: -1, gesture: null, send: null, cells: [], numbers: [] };
  grid.style.setProperty("--layers", layers);
  grid.replaceChildren();
  PARTS.forEach((part, row) => {
    grid.append(label(part === "MLP" ? "MLP" : "Attention"));
    for (let layer = 0; layer < layers; layer++) strip.cells.push(grid.appendChild(switchFor("cell", row * layers + layer)));
  });
  grid.append(label("Layer"));
  for (let layer = 0; layer < layers; layer++) {
    const number = switchFor("number", layer);
    number.textContent = layer;
    strip.numbers.push(grid.appendChild(number));
  }
  strip.cells[0].tabIndex = 0;
  listen(strip, root);
  return strip;
}

function label(text) {
  const element = document.createElement("span");
  element.className = "label";
  element.textContent = text;
  return element;
}

function switchFor(kind, index) {
  const element = document.createElement("button");
  element.type = "button";
  element.className = kind;
  element.dataset[kind] = index;
  element.tabIndex = -1;
  element.setAttribute("role", "switch");
  return element;
}

function listen(strip, root) {
  const { grid } = strip;
  grid.onpointerdown = (event) => {
    const target = event.target.closest(".cell, .number");
    if (!target || event.button) return;
    event.preventDefault();
    focus(strip, target);
    strip.gesture = { off: !isOff(strip, target), last: target };
    grid.setPointerCapture(event.pointerId);
    paint(strip, target);
  };
  grid.onpointermove = (event) => {
    if (!strip.gesture) return;
    const target = root.elementFromPoint(event.clientX, event.clientY)?.closest(".cell, .number");
    if (target) sweep(strip, target);
  };
  grid.onpointerup = grid.onpointercancel = () => {
    if (!strip.gesture) return;
    strip.gesture = null;
    commit(strip);
  };
  grid.onkeydown = (event) => {
    const target = event.target.closest(".cell, .number");
    if (!target) return;
    event.stopPropagation(); // Streamlit has shortcuts of its own
    if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      strip.gesture = { off: !isOff(strip, target) };
      paint(strip, target);
      strip.gesture = null;
      commit(strip);
    } else if (move(strip, target, event.key)) event.preventDefault();
  };
  // Pointer gestures are handled above; a click without one comes from assistive technology.
  grid.onclick = (event) => {
    const target = event.target.closest(".cell, .number");
    if (!target || event.detail !== 0) return;
    strip.gesture = { off: !isOff(strip, target) };
    paint(strip, target);
    strip.gesture = null;
    commit(strip);
  };
}

const rows = (strip) => [strip.cells.slice(0, strip.layers), strip.cells.slice(strip.layers), strip.numbers];

function move(strip, from, key) {
  const grid = rows(strip);
  const row = grid.findIndex((cells) => cells.includes(from));
  const column = grid[row].indexOf(from);
  const to = {
    ArrowLeft: grid[row][column - 1], ArrowRight: grid[row][column + 1],
    ArrowUp: grid[row - 1]?.[column], ArrowDown: grid[row + 1]?.[column],
    Home: grid[row][0], End: grid[row][strip.layers - 1],
  }[key];
  if (to) focus(strip, to);
  return Boolean(to);
}

function focus(strip, target) {
  for (const element of [...strip.cells, ...strip.numbers]) element.tabIndex = -1;
  target.tabIndex = 0;
  target.focus();
}

const cellsOf = (strip, target) =>
  target.className === "cell"
    ? [Number(target.dataset.cell)]
    : [Number(target.dataset.number), strip.layers + Number(target.dataset.number)];

const isOff = (strip, target) => cellsOf(strip, target).every((cell) => strip.off[cell]);

function paint(strip, target) {
  for (const cell of cellsOf(strip, target)) strip.off[cell] = strip.gesture.off;
  draw(strip);
}

// A fast pointer skips cells: paint all from the last one on the same row.
function sweep(strip, target) {
  const row = rows(strip).find((cells) => cells.includes(target));
  const [from, to] = [row.indexOf(strip.gesture.last), row.indexOf(target)];
  if (from < 0 && target.className !== strip.gesture.last.className) return;
  const start = from < 0 ? to : Math.min(from, to);
  for (const cell of row.slice(start, Math.max(from, to) + 1)) paint(strip, cell);
  strip.gesture.last = target;
}

function commit(strip) {
  strip.send("off", strip.off.map(Number).join(""));
}

function draw(strip) {
  strip.cells.forEach((cell, index) => {
    const layer = index % strip.layers;
    const note = strip.notes ? `, ${strip.notes[index]}` : "";
    describe(cell, `${PARTS[Math.floor(index / strip.layers)]} of layer ${layer}`, !strip.off[index], note);
    cell.style.setProperty("--colour", strip.colours ? strip.colours[index] : "var(--st-secondary-background-color)");
  });
  strip.numbers.forEach((number, layer) => describe(number, `layer ${layer}`, !isOff(strip, number), ""));
}

function describe(element, name, on, note) {
  element.setAttribute("aria-checked", String(on));
  element.setAttribute("aria-label", name);
  element.title = `${name}: ${on ? "kept" : "removed"}${note}`;
}

export default function ({ parentElement: root, data, setStateValue }) {
  let strip = STRIPS.get(root);
  if (!strip || strip.layers !== data.layers || !strip.grid.isConnected) {
    strip = build(root, data.layers);
    STRIPS.set(root, strip);
  }
  strip.send = setStateValue;
  strip.colours = data.colours;
  strip.notes = data.notes;
  if (data.revision > strip.revision && !strip.gesture) {
    strip.revision = data.revision;
    strip.off = [...data.off].map((cell) => cell === "1");
  }
  draw(strip);
}
