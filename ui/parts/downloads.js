// A plotly figure as PNG, SVG or PDF, as wide as on the page or as a column of a paper.
// plotly's camera draws an SVG with the layout that it is lent; the file it would save is taken and written anew.
// The PDF holds that SVG as one image of 300 dpi, with nothing lost; who wants vectors takes the SVG.
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
        save(await write(svg, format), `${data.name}.${format}`);
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

async function write(svg, format) {
  const [width, height] = ["width", "height"].map((name) => parseFloat(svg.getAttribute(name)) / CSS_PIXELS); // inches
  svg.setAttribute("viewBox", `0 0 ${width * CSS_PIXELS} ${height * CSS_PIXELS}`);
  if (format === "svg") {
    svg.setAttribute("width", `${width}in`);
    svg.setAttribute("height", `${height}in`);
    return new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" });
  }
  const canvas = await paint(svg, Math.round(width * DPI), Math.round(height * DPI), format === "pdf");
  return format === "png" ? writePng(canvas) : writePdf(canvas, width * 72, height * 72);
}

async function paint(svg, width, height, opaque) {
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(svg))}`;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  if (opaque) {
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
  }
  context.drawImage(image, 0, 0, width, height);
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

// A PDF of one page, in points, with one image on it.
async function writePdf(canvas, width, height) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const colours = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    colours[to++] = data[from];
    colours[to++] = data[from + 1];
    colours[to++] = data[from + 2];
  }
  const packed = new Blob([colours]).stream().pipeThrough(new CompressionStream("deflate"));
  const image = new Uint8Array(await new Response(packed).arrayBuffer());
  const page = `${width.toFixed(2)} 0 0 ${height.toFixed(2)} 0 0 cm /Figure Do`;
  const parts = ["%PDF-1.4\n"];
  const starts = [];
  const size = () => parts.reduce((sum, part) => sum + part.length, 0); // all ASCII but the image
  const add = (...content) => {
    starts.push(size());
    parts.push(`${starts.length} 0 obj\n`, ...content, "\nendobj\n");
  };
  add("<< /Type /Catalog /Pages 2 0 R >>");
  add("<< /Type /Pages /Kids [3 0 R] /Count 1 >>");
  add(
    `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${width.toFixed(2)} ${height.toFixed(2)}] `,
    "/Resources << /XObject << /Figure 5 0 R >> >> /Contents 4 0 R >>",
  );
  add(`<< /Length ${page.length} >>\nstream\n${page}\nendstream`);
  add(
    `<< /Type /XObject /Subtype /Image /Width ${canvas.width} /Height ${canvas.height} /ColorSpace /DeviceRGB `,
    `/BitsPerComponent 8 /Filter /FlateDecode /Length ${image.length} >>\nstream\n`, image, "\nendstream",
  );
  const table = size();
  const rows = starts.map((start) => `${String(start).padStart(10, "0")} 00000 n \n`).join("");
  parts.push(`xref\n0 ${starts.length + 1}\n0000000000 65535 f \n${rows}`);
  parts.push(`trailer\n<< /Size ${starts.length + 1} /Root 1 0 R >>\nstartxref\n${table}\n%%EOF\n`);
  return new Blob(parts, { type: "application/pdf" });
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click(); // outside the page, so that the popover stays open
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
