// An SVG -> a PDF of one page: lines, areas and gradients as they are, the cells of a heatmap as rectangles, text as text.
// The browser lays the SVG out and is asked where everything is; nothing is painted, so no image is in the file.
// Text is set in the fonts that every PDF reader has, Helvetica and Symbol: they are named, not part of the file.
const POINTS = 0.75; // in a pixel of CSS
const WINDOWS = "€ ‚ƒ„…†‡ˆ‰Š‹Œ Ž  ‘’“”•–—˜™š›œ žŸ"; // Helvetica's signs from 128 on
const SYMBOL = new Map(Object.entries({
  "−": 0x2d, "≈": 0xbb, "∞": 0xa5, "≤": 0xa3, "≥": 0xb3, "≠": 0xb9, "→": 0xae, "←": 0xac, "↑": 0xad, "↓": 0xaf, "√": 0xd6,
  "∑": 0xe5, "∂": 0xb6, "∈": 0xce, "∝": 0xb5, "∆": 0x44, "Δ": 0x44, "Σ": 0x53, "Ω": 0x57, "α": 0x61, "β": 0x62, "γ": 0x67,
  "δ": 0x64, "ε": 0x65, "η": 0x68, "θ": 0x71, "κ": 0x6b, "λ": 0x6c, "μ": 0x6d, "π": 0x70, "ρ": 0x72, "σ": 0x73, "τ": 0x74,
  "φ": 0x66, "χ": 0x63, "ψ": 0x79, "ω": 0x77,
}));

// Returns the file and how many signs the fonts lack; those stand as question marks.
async function writePdf(svg, width, height) {
  const holder = document.body.appendChild(document.createElement("div"));
  holder.style.cssText = "position: fixed; left: -20000px; top: 0";
  for (const [name, value] of [["width", width], ["height", height]]) svg.setAttribute(name, value);
  for (const text of svg.querySelectorAll("text, tspan")) text.style.fontFamily = "Helvetica, Arial, sans-serif";
  holder.attachShadow({ mode: "open" }).append(svg);
  const it = { out: [], fonts: new Map(), states: new Map(), shadings: [], lacking: 0, svg };
  try {
    it.out.push(`${POINTS} 0 0 ${-POINTS} 0 ${digits(height * POINTS)} cm`);
    for (const child of svg.children) await drawElement(it, child, 1);
  } finally {
    holder.remove();
  }
  return { blob: await bind(it, width * POINTS, height * POINTS), lacking: it.lacking };
}

const digits = (value) => String(Math.round(1000 * value) / 1000);

async function drawElement(it, element, opacity) {
  const style = getComputedStyle(element);
  if (style.display === "none" || ["defs", "clipPath", "style", "title"].includes(element.tagName)) return;
  opacity *= Number(style.opacity);
  const clip = find(it.svg, style.clipPath);
  if (clip) {
    const inside = [...clip.children].map((part) => trace(part, multiply(element.getCTM(), ownMatrix(part))));
    it.out.push("q", ...inside, "W n");
  }
  if (element.tagName === "g" || element.tagName === "svg") {
    for (const child of element.children) await drawElement(it, child, opacity);
  } else if (style.visibility === "visible" && opacity > 0) {
    if (element.tagName === "text") setText(it, element, opacity);
    else if (element.tagName === "image") await drawCells(it, element, opacity);
    else drawShape(it, element, style, opacity);
  }
  if (clip) it.out.push("Q");
}

// What url(#name) or url("address#name") names.
function find(svg, value) {
  const name = /url\(.*#(.*?)["']?\)/.exec(value)?.[1];
  return name && svg.querySelector(`[id="${name}"]`);
}

const multiply = (left, right) => DOMMatrix.fromMatrix(left).multiply(right);

const ownMatrix = (element) => DOMMatrix.fromMatrix(element.transform.baseVal.consolidate()?.matrix);

function drawShape(it, element, style, opacity) {
  const matrix = element.getCTM();
  const path = trace(element, matrix);
  if (!path) return;
  const gradient = find(it.svg, style.fill);
  const fill = readColour(style.fill, opacity * style.fillOpacity);
  const stroke = readColour(style.stroke, opacity * style.strokeOpacity);
  const thick = parseFloat(style.strokeWidth) * (style.vectorEffect === "non-scaling-stroke" ? 1 : scaleOf(matrix));
  if (gradient) shade(it, element, gradient, matrix, path);
  const even = style.fillRule === "evenodd" ? "*" : "";
  if (fill) it.out.push("q", setOpacity(it, fill.opacity), `${fill.rgb} rg`, path, `f${even}`, "Q");
  if (!stroke || !thick) return;
  const dashes = style.strokeDasharray === "none" ? [] : style.strokeDasharray.split(/[ ,]+/).map(parseFloat);
  const cap = ["butt", "round", "square"].indexOf(style.strokeLinecap);
  const join = Math.max(0, ["miter", "round", "bevel"].indexOf(style.strokeLinejoin));
  it.out.push(
    "q", setOpacity(it, stroke.opacity), `${stroke.rgb} RG ${digits(thick)} w ${cap} J ${join} j ${style.strokeMiterlimit} M`,
    `[${dashes.map(digits).join(" ")}] 0 d`, path, "S Q",
  );
}

const scaleOf = ({ a, b, c, d }) => Math.sqrt(Math.abs(a * d - b * c));

// A computed colour; null where nothing of it is seen.
function readColour(value, opacity) {
  const [red, green, blue, own = 1] = /^rgb/.test(value) ? value.match(/[\d.]+/g).map(Number) : [];
  return red === undefined || own * opacity === 0
    ? null
    : { rgb: [red, green, blue].map((part) => digits(part / 255)).join(" "), opacity: own * opacity };
}

function setOpacity(it, value) {
  const key = digits(value);
  if (!it.states.has(key)) it.states.set(key, `S${it.states.size}`);
  return `/${it.states.get(key)} gs`;
}

// A linear gradient, along the box of what it fills or in its coordinates.
function shade(it, element, gradient, matrix, path) {
  const box = gradient.gradientUnits.baseVal === SVGUnitTypes.SVG_UNIT_TYPE_OBJECTBOUNDINGBOX ? element.getBBox() : null;
  const ends = [["x1", "y1"], ["x2", "y2"]].map(([x, y]) => [gradient[x].baseVal.value, gradient[y].baseVal.value]);
  if (box) for (const end of ends) [end[0], end[1]] = [box.x + end[0] * box.width, box.y + end[1] * box.height];
  const stops = [...gradient.children].map((stop) => ({
    at: stop.offset.baseVal,
    rgb: readColour(getComputedStyle(stop).stopColor, 1)?.rgb ?? "1 1 1",
  }));
  const steps = stops.slice(1).map((stop, i) => ({ from: stops[i], to: stop })).filter(({ from, to }) => to.at > from.at);
  const blends = steps.map(({ from, to }) => `<< /FunctionType 2 /Domain [0 1] /C0 [${from.rgb}] /C1 [${to.rgb}] /N 1 >>`);
  const [low, high] = [stops[0].at, stops.at(-1).at];
  it.shadings.push(
    `<< /ShadingType 2 /ColorSpace /DeviceRGB /Coords [${ends.map(([x, y]) => place(matrix, x, y)).join(" ")}] ` +
      `/Extend [true true] /Domain [${low} ${high}] /Function << /FunctionType 3 /Domain [${low} ${high}] ` +
      `/Functions [${blends.join(" ")}] /Bounds [${steps.slice(1).map(({ from }) => digits(from.at)).join(" ")}] ` +
      `/Encode [${steps.map(() => "0 1").join(" ")}] >> >>`,
  );
  it.out.push("q", path, `W n /G${it.shadings.length - 1} sh Q`);
}

const place = ({ a, b, c, d, e, f }, x, y) => `${digits(a * x + c * y + e)} ${digits(b * x + d * y + f)}`;

// The cells of a heatmap are pixels of one colour: a rectangle for each run of them, over all the rows that it goes on through.
async function drawCells(it, element, opacity) {
  const image = new Image();
  image.src = element.href.baseVal;
  await image.decode();
  const { naturalWidth: columns, naturalHeight: rows } = image;
  const canvas = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, columns, rows).data.buffer);
  const [x, y, width, height] = ["x", "y", "width", "height"].map((name) => element[name].baseVal.value);
  const matrix = multiply(element.getCTM(), new DOMMatrix([width / columns, 0, 0, height / rows, x, y]));
  const seen = (column, row) => column < columns && row < rows && pixels[row * columns + column] >>> 24;
  for (const { left, right, top, bottom, colour } of listRuns(pixels, columns, rows)) {
    const [red, green, blue, own] = new Uint8Array(new Uint32Array([colour]).buffer);
    const shown = readColour(`rgb(${red}, ${green}, ${blue})`, (opacity * own) / 255);
    if (!shown) continue;
    // A fifth of a pixel below the next ones, or a reader shows a seam between them.
    const beyond = right + (seen(right, top) ? (0.2 * columns) / width : 0);
    const below = bottom + (seen(left, bottom) ? (0.2 * rows) / height : 0);
    const corners = [[left, top], [beyond, top], [beyond, below], [left, below]].map(([px, py]) => place(matrix, px, py));
    it.out.push(setOpacity(it, shown.opacity), `${shown.rgb} rg ${corners[0]} m ${corners.slice(1).join(" l ")} l h f`);
  }
}

function listRuns(pixels, columns, rows) {
  const done = [];
  let open = new Map(); // by left end, right end and colour
  for (let row = 0; row < rows; row++) {
    const next = new Map();
    for (let left = 0; left < columns; ) {
      const colour = pixels[row * columns + left];
      let right = left + 1;
      while (right < columns && pixels[row * columns + right] === colour) right++;
      const key = `${left} ${right} ${colour}`;
      const run = open.get(key) ?? { left, right, top: row, colour };
      run.bottom = row + 1;
      if (!open.has(key)) done.push(run);
      next.set(key, run);
      left = right;
    }
    open = next;
  }
  return done;
}

function setText(it, element, opacity) {
  let at = 0;
  const nodes = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (nodes.nextNode()) {
    const style = getComputedStyle(nodes.currentNode.parentElement);
    const fill = readColour(style.fill, opacity * style.fillOpacity);
    const weight = `${style.fontWeight >= 600 ? "Bold" : ""}${style.fontStyle === "italic" ? "Oblique" : ""}`;
    const helvetica = `Helvetica${weight && "-"}${weight}`;
    let run = null;
    for (const sign of nodes.currentNode.data) {
      if (sign === "\u200b") { // plotly's, about what is raised or lowered
        at++;
        continue;
      }
      const { font, code } = encode(it, sign, helvetica);
      if (run?.font !== font) run = startRun(it, element, at, font, parseFloat(style.fontSize), fill);
      run.codes.push(code.toString(16).padStart(2, "0"));
      at += sign.length;
    }
  }
}

function startRun(it, element, at, font, size, fill) {
  const run = { font, codes: [] };
  if (!fill) return run;
  const { a, b, c, d, e, f } = element.getCTM();
  const { x, y } = element.getStartPositionOfChar(at);
  if (!it.fonts.has(font)) it.fonts.set(font, `F${it.fonts.size}`);
  const [name, state] = [it.fonts.get(font), setOpacity(it, fill.opacity)];
  const matrix = `${[a, b, -c, -d].map(digits).join(" ")} ${place({ a, b, c, d, e, f }, x, y)}`;
  it.out.push({ toString: () => `BT ${state} ${fill.rgb} rg /${name} ${digits(size)} Tf ${matrix} Tm <${run.codes.join("")}> Tj ET` });
  return run;
}

function encode(it, sign, helvetica) {
  const code = sign.codePointAt(0);
  if (code < 128 || (code >= 160 && code < 256)) return { font: helvetica, code };
  if (WINDOWS.includes(sign)) return { font: helvetica, code: 128 + WINDOWS.indexOf(sign) };
  if (SYMBOL.has(sign)) return { font: "Symbol", code: SYMBOL.get(sign) };
  it.lacking++;
  return { font: helvetica, code: 63 };
}

async function bind(it, width, height) {
  const packed = new Blob([it.out.join("\n")]).stream().pipeThrough(new CompressionStream("deflate"));
  const content = new Uint8Array(await new Response(packed).arrayBuffer());
  const dictionary = (entries) => `<< ${entries.map(([name, value]) => `/${name} ${value}`).join(" ")} >>`;
  const fonts = [...it.fonts].map(([font, name]) => {
    const encoding = font === "Symbol" ? "" : " /Encoding /WinAnsiEncoding";
    return [name, `<< /Type /Font /Subtype /Type1 /BaseFont /${font}${encoding} >>`];
  });
  const states = [...it.states].map(([opacity, name]) => [name, `<< /ca ${opacity} /CA ${opacity} >>`]);
  const shadings = it.shadings.map((shading, index) => [`G${index}`, shading]);
  const resources = [["Font", fonts], ["ExtGState", states], ["Shading", shadings]];
  const objects = [
    ["<< /Type /Catalog /Pages 2 0 R >>"],
    ["<< /Type /Pages /Kids [3 0 R] /Count 1 >>"],
    [
      `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${digits(width)} ${digits(height)}] /Contents 4 0 R ` +
        `/Resources ${dictionary(resources.map(([name, entries]) => [name, dictionary(entries)]))} >>`,
    ],
    [`<< /Filter /FlateDecode /Length ${content.length} >>\nstream\n`, content, "\nendstream"],
  ];
  const parts = ["%PDF-1.4\n"];
  const size = () => parts.reduce((sum, part) => sum + part.length, 0); // all ASCII but the content
  const starts = objects.map((object, index) => {
    const start = size();
    parts.push(`${index + 1} 0 obj\n`, ...object, "\nendobj\n");
    return start;
  });
  const table = size();
  const rows = starts.map((start) => `${String(start).padStart(10, "0")} 00000 n \n`).join("");
  parts.push(`xref\n0 ${starts.length + 1}\n0000000000 65535 f \n${rows}`);
  parts.push(`trailer\n<< /Size ${starts.length + 1} /Root 1 0 R >>\nstartxref\n${table}\n%%EOF\n`);
  return new Blob(parts, { type: "application/pdf" });
}
