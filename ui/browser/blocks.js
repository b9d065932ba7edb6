// The triangle of blocks: each stands over the middle of its layers, one layer high at the foot, larger ones above it, so
// that its sides lead down to its first and its last layer. Bright is redundant. Under it what each layer by itself does.
const TALLEST = 48; // sizes at the most; beyond that a row is too low to be hit
const HEIGHT = [120, 232], PER_SIZE = 8; // pixels
const CORNER = 260; // pixels beside the top of the triangle that its words and its colours take
const TAILS = 0.02; // of the values at either end lie beyond the range of colours

function buildBlocks(it) {
  const { blocks, aim } = it.parts;
  it.sizes = Math.min(it.layers, TALLEST);
  it.rowHeight = Math.min(HEIGHT[1], Math.max(HEIGHT[0], PER_SIZE * it.sizes)) / it.sizes;
  blocks.parentElement.style.height = `${it.sizes * it.rowHeight}px`;
  it.hovered = null;
  it.gap = 0;
  blocks.onpointermove = (event) => aimAt(it, blockAt(it, event));
  blocks.onpointerleave = () => aimAt(it, null);
  blocks.onblur = () => aimAt(it, null);
  blocks.onclick = (event) => {
    const block = blockAt(it, event);
    if (block) removeBlock(it, block);
  };
  blocks.onkeydown = (event) => {
    const to = besideBlock(it, event.key);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (to) aimAt(it, to, true);
    else if ((event.key === "Enter" || event.key === " ") && it.hovered) removeBlock(it, it.hovered);
    else return;
    event.preventDefault();
  };
  aim.replaceChildren();
  it.best = shape("path", { class: "best" }, aim);
  it.runs = shape("path", { class: "runs" }, aim);
  it.sides = shape("path", { class: "sides" }, aim);
}

// From one layer's left edge to the next one's, in pixels: the strip's cells and the gaps between them.
const pitchOf = (it) => (it.parts.blocks.clientWidth + it.gap) / it.layers;

const leftOf = (it, { start, size }) => (start + (size - 1) / 2) * pitchOf(it);

const topOf = (it, { size }) => (it.sizes - size) * it.rowHeight;

function blockAt(it, event) {
  const box = it.parts.blocks.getBoundingClientRect();
  const size = it.sizes - Math.floor((event.clientY - box.top) / it.rowHeight);
  const start = Math.floor((event.clientX - box.left) / pitchOf(it) - (size - 1) / 2);
  return fitting(it, { start, size });
}

const fitting = (it, { start, size }) =>
  size >= 1 && size <= it.sizes && start >= 0 && start + size <= it.layers ? { start, size } : null;

function besideBlock(it, key) {
  const from = it.hovered ?? { start: bestOf(it, 1), size: 1 };
  const { start, size } = from;
  const most = it.layers - size;
  const to = {
    ArrowLeft: { start: start - 1, size }, ArrowRight: { start: start + 1, size },
    ArrowUp: { start: Math.min(start, most - 1), size: size + 1 }, ArrowDown: { start, size: size - 1 },
    Home: { start: 0, size }, End: { start: most, size }, b: { start: bestOf(it, size), size },
  }[key];
  return to && (it.hovered ? fitting(it, to) ?? from : from);
}

function bestOf(it, size) {
  const row = it.data.blocks?.values[size - 1] ?? [];
  return row.reduce((best, value, start) => (value !== null && (row[best] ?? Infinity) > value ? start : best), 0);
}

const layersOf = ({ start, size }) => Array.from({ length: size }, (_, index) => start + index);

// A block that is off already comes back.
function withBlock(it, block) {
  const off = it.off.slice(), cells = layersOf(block).flatMap((layer) => [layer, it.layers + layer]);
  const removes = !cells.every((cell) => off[cell]);
  for (const cell of cells) off[cell] = removes;
  return { off, removes };
}

function removeBlock(it, block) {
  it.off = withBlock(it, block).off;
  repaint(it);
  commit(it);
  describeAim(it);
}

function aimAt(it, block, aloud = false) {
  if (it.hovered?.start === block?.start && it.hovered?.size === block?.size) return;
  for (const row of it.hovered ? layersOf(it.hovered) : []) for (const cells of it.rows) delete cells[row].dataset.aimed;
  it.hovered = block;
  for (const row of block ? layersOf(block) : []) for (const cells of it.rows) cells[row].dataset.aimed = "";
  drawAim(it);
  const words = describeAim(it);
  if (aloud) write(it.parts.live, words);
}

function drawAim(it) {
  it.sides.setAttribute("d", it.hovered ? sidesOf(it, it.hovered) : "");
}

// A block's cell, and lines from its feet to its first and last layer.
function sidesOf(it, block) {
  const pitch = pitchOf(it), foot = it.sizes * it.rowHeight, bottom = topOf(it, block) + it.rowHeight;
  const first = block.start * pitch, last = (block.start + block.size) * pitch - it.gap, left = leftOf(it, block);
  return `${cellOf(it, block)}M${left},${bottom}L${first},${foot}H${last}L${left + pitch},${bottom}`;
}

function cellOf(it, block) {
  const width = pitchOf(it);
  return `M${leftOf(it, block)},${topOf(it, block)}h${width}v${it.rowHeight}h${-width}z`;
}

const nameOf = ({ start, size }) => (size === 1 ? `Layer ${start}` : `Layers ${start}-${start + size - 1} (${size})`);

function describeAim(it) {
  const { blocks } = it.data;
  const { aimed } = it.parts;
  if (!blocks) {
    write(aimed, it.data.awaitedBlocks);
    return "";
  }
  if (!it.hovered) {
    const most = it.sizes < it.layers ? ` of up to ${it.sizes} layers` : " of layers";
    write(aimed, `Each cell is a block${most}, over their middle. A click removes it. Outlined: the best of its size.`);
    return "";
  }
  const { off, removes } = withBlock(it, it.hovered);
  const value = valueOf(it, keyOf(off));
  const distance = blocks.values[it.hovered.size - 1][it.hovered.start];
  const words = [
    nameOf(it.hovered),
    distance === null ? "" : `${blocks.label} ${(blocks.sign * distance).toPrecision(3)}`,
    `${removes ? "off" : "back"}: perplexity ${value.kind === "none" ? "not known yet" : `${markOf(value)}${writePerplexity(value.nll)}, ${value.kind}`}`,
  ].filter(Boolean);
  write(aimed, words.join("\n"));
  return words.join(", ");
}

// The whole layers that are off, as the blocks that they make.
function drawRuns(it) {
  const path = [];
  for (let layer = 0, start = null; layer <= it.layers; layer++) {
    const off = layer < it.layers && it.off[layer] && it.off[it.layers + layer];
    if (off) start ??= layer;
    else if (start !== null) {
      if (layer - start <= it.sizes) path.push(cellOf(it, { start, size: layer - start }));
      start = null;
    }
  }
  const drawn = path.join("");
  if (it.runs.getAttribute("d") !== drawn) it.runs.setAttribute("d", drawn);
}

function drawBlocks(it) {
  const { blocks: canvas, sizes, scale } = it.parts;
  const { blocks } = it.data;
  const width = canvas.clientWidth;
  const key = JSON.stringify([width, devicePixelRatio, blocks]);
  if (it.blocksKey === key || !width) return;
  it.blocksKey = key;
  it.gap = Number.parseFloat(getComputedStyle(it.grid).columnGap) || 0;
  const cut = it.grid.scrollWidth > it.grid.parentElement.clientWidth; // its right corner is out of sight
  it.grid.toggleAttribute("data-over", cut || leftOf(it, { start: 0, size: it.sizes }) < CORNER);
  const pen = penOf(canvas, width, it.sizes * it.rowHeight);
  sizes.replaceChildren();
  it.best.setAttribute("d", "");
  write(scale, "");
  if (blocks) {
    const colourOf = colourScale(blocks);
    const cell = Math.ceil(pitchOf(it)), tall = Math.ceil(it.rowHeight);
    blocks.values.slice(0, it.sizes).forEach((row, index) => row.forEach((value, start) => {
      const block = { start, size: index + 1 };
      pen.fillStyle = colourOf(value);
      pen.fillRect(Math.floor(leftOf(it, block)), Math.floor(topOf(it, block)), cell, tall);
    }));
    it.best.setAttribute("d", blocks.values.slice(0, it.sizes).map((_, index) => cellOf(it, { start: bestOf(it, index + 1), size: index + 1 })).join(""));
    ruleSizes(it, sizes);
    drawScale(scale, blocks, colourOf);
  }
  drawInfluence(it, width);
  drawAim(it);
}

function penOf(canvas, width, height) {
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
  const pen = canvas.getContext("2d");
  pen.scale(devicePixelRatio, devicePixelRatio);
  return pen;
}

// From a value to a colour, on a log scale where all are positive; the tails share the last colours.
function colourScale(blocks) {
  const known = blocks.values.flat().filter((value) => value !== null).sort((a, b) => a - b);
  const at = (share) => known[Math.min(known.length - 1, Math.round(share * (known.length - 1)))];
  const middle = Math.max(Math.abs(at(0.5)), 1e-12);
  const scaled = known[0] > 0 ? Math.log : (value) => Math.asinh(value / middle);
  const [low, high] = [at(TAILS), at(1 - TAILS)];
  const colourOf = (value) => {
    if (value === null) return "transparent";
    const place = (scaled(value) - scaled(low)) / Math.max(scaled(high) - scaled(low), 1e-9);
    return blocks.palette[Math.round(Math.min(1, Math.max(0, place)) * (blocks.palette.length - 1))];
  };
  return Object.assign(colourOf, { low, high, clips: [known[0] < low, known[known.length - 1] > high] });
}

function drawScale(scale, blocks, { low, high, clips }) {
  const bar = Object.assign(document.createElement("i"), { className: "bar" });
  bar.style.background = `linear-gradient(to right, ${blocks.palette.join(",")})`;
  const [below, above] = blocks.sign < 0 ? ["≥ ", "≤ "] : ["≤ ", "≥ "];
  const ends = [[low, clips[0], below], [high, clips[1], above]].map(
    ([end, clipped, sign]) => `${clipped ? sign : ""}${Number((blocks.sign * end).toPrecision(2))}`);
  scale.replaceChildren(blocks.title, document.createElement("br"), ends[0], bar, ends[1]);
}

function ruleSizes(it, sizes) {
  const step = [1, 2, 5, 10, 20].find((each) => each * it.rowHeight >= 22) ?? 20;
  for (let size = step; size <= it.sizes; size += step) {
    const tick = Object.assign(document.createElement("span"), { textContent: size });
    tick.style.top = `max(.5em, ${topOf(it, { size }) + it.rowHeight / 2}px)`;
    sizes.append(tick);
  }
}

// A bar a layer, as high as its block influence on a log scale: what hardly changes the stream is low.
function drawInfluence(it, width) {
  const canvas = it.parts.influence, height = canvas.clientHeight;
  const pen = penOf(canvas, width, height);
  const values = it.data.influence?.layers;
  if (!values) return;
  const known = values.filter((value) => value > 0).map(Math.log);
  const low = Math.min(...known), high = Math.max(...known), pitch = pitchOf(it);
  pen.fillStyle = getComputedStyle(canvas).color;
  values.forEach((value, layer) => {
    if (!(value > 0)) return;
    const tall = 2 + ((height - 3) * (Math.log(value) - low)) / Math.max(high - low, 1e-9);
    pen.fillRect(layer * pitch, height - tall, pitch - it.gap, tall);
  });
}
