// A plotly figure as PNG, SVG or PDF, as wide as on the page or as a column of a paper.
// plotly's camera draws an SVG with the layout that it is lent; the file it would save is taken and written anew.
const DPI = 300;
const CSS_PIXELS = 96; // in an inch

export default function ({ parentElement: root, data }) {
  const say = root.querySelector("[role=status]");
  for (const button of root.querySelectorAll("button")) {
    button.onclick = async () => {
      const plot = document.querySelector(`.st-key-${CSS.escape(data.plot)} .js-plotly-plot`);
      const camera = plot?.querySelector('.modebar-btn[data-title^="Download plot"]');
      if (!camera) {
        say.textContent = "The figure is not drawn yet.";
        return;
      }
      const format = button.dataset.format;
      const width = root.querySelector("select").value;
      say.textContent = "";
      try {
        const svg = await draw(plot, camera, data.layouts[width]);
        save(await write(svg, format, say), `${data.name}.${format}`);
      } catch (error) {
        say.textContent = `The figure could not be written: ${error.message}`;
      }
    };
  }
}

// The SVG of a figure, under a layout for paper if there is one.
async function draw(plot, camera, layout) {
  const name = `figure-${crypto.getRandomValues(new Uint32Array(2)).join("")}`;
  const kept = { data: plot.data, layout: plot.layout, options: plot._context.toImageButtonOptions };
  const drawn = new Promise((resolve, reject) => {
    const take = (event) => {
      const link = event.target.closest?.("a[download]");
      if (link?.download !== `${name}.svg`) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      document.removeEventListener("click", take, true);
      fetch(link.href).then((found) => found.text()).then(resolve, reject);
    };
    document.addEventListener("click", take, true);
    setTimeout(() => {
      document.removeEventListener("click", take, true);
      reject(new Error("plotly did not draw it within 30 seconds"));
    }, 30000);
  });
  const size = layout ? { width: layout.width, height: layout.height } : { width: plot.clientWidth, height: plot.clientHeight };
  plot._context.toImageButtonOptions = { format: "svg", filename: name, scale: 1, ...size };
  try {
    if (layout) [plot.layout, plot.data] = [structuredClone(layout), plot.data.map(fitTrace)];
    camera.dispatchEvent(new MouseEvent("click")); // unheard beyond it, for a popover closes at a click outside
  } finally {
    [plot.data, plot.layout, plot._context.toImageButtonOptions] = [kept.data, kept.layout, kept.options];
  }
  return new DOMParser().parseFromString(await drawn, "image/svg+xml").documentElement;
}

// A trace for paper: nothing is selected, and colour bars are thin, their titles beside them.
function fitTrace(trace) {
  const { selectedpoints, ...rest } = trace;
  if (!rest.colorbar) return rest;
  const title = rest.colorbar.title?.text?.replace("<br>lower is more redundant", "").replace("<br>", " ");
  return { ...rest, colorbar: { ...rest.colorbar, thickness: 9, outlinewidth: 0, title: { text: title, side: "right", font: { size: 32 / 3 } } } };
}

async function write(svg, format, say) {
  const [width, height] = ["width", "height"].map((name) => parseFloat(svg.getAttribute(name)) / CSS_PIXELS); // inches
  svg.setAttribute("viewBox", `0 0 ${width * CSS_PIXELS} ${height * CSS_PIXELS}`);
  if (format === "svg") {
    svg.setAttribute("width", `${width}in`);
    svg.setAttribute("height", `${height}in`);
    return new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" });
  }
  if (format === "pdf") {
    const { blob, lacking } = await writePdf(svg, width * CSS_PIXELS, height * CSS_PIXELS);
    if (lacking) say.textContent = `${lacking} signs that a PDF's own fonts lack stand as ?; the SVG has them.`;
    return blob;
  }
  return writePng(await paint(svg, Math.round(width * DPI), Math.round(height * DPI)));
}

async function paint(svg, width, height) {
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(svg))}`;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage(image, 0, 0, width, height);
  return canvas;
}

// A PNG that says how large it is: a pHYs chunk after the header, which ends at byte 33.
async function writePng(canvas) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const chunk = new DataView(new ArrayBuffer(21));
  const perMetre = Math.round(DPI / 0.0254);
  chunk.setUint32(0, 9);
  [..."pHYs"].forEach((letter, at) => chunk.setUint8(4 + at, letter.charCodeAt(0)));
  chunk.setUint32(8, perMetre);
  chunk.setUint32(12, perMetre);
  chunk.setUint8(16, 1);
  chunk.setUint32(17, checksum(new Uint8Array(chunk.buffer, 4, 13)));
  return new Blob([bytes.slice(0, 33), chunk.buffer, bytes.slice(33)], { type: "image/png" });
}

function checksum(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click(); // outside the page, so that the popover stays open
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
