// What the model needs, before and after. A row of the data is what the whole model needs and what each kind of layer
// gives back without its attention, its MLP or both: a number for each context to choose from.

const SIZES = ["B", "kB", "MB", "GB", "TB"];
const SCALES = { bytes: SIZES, weights: SIZES, flops: ["", "k", "M", "G", "T", "P"] };
const BITS = [16, 8, 4]; // of a weight, to choose from

function writeQuantity(value, unit) {
  if (unit === "count") return Math.round(value).toLocaleString("en-US");
  const units = SCALES[unit];
  let scale = 0;
  while (value >= 1000 && scale < units.length - 1) { value /= 1000; scale++; }
  return `${scale ? value.toFixed(1) : Math.round(value)} ${units[scale]}`;
}

function buildMeter(it, meter) {
  const body = it.parts.meter;
  body.replaceChildren();
  it.meterRows = meter.rows.map((row) => {
    const line = body.insertRow();
    const head = Object.assign(document.createElement("th"), { scope: "row", title: row.meaning });
    head.append(row.unit === "weights" ? labelBits(it, row.label) : row.label);
    line.append(head);
    const [before, after, saved] = [line.insertCell(), line.insertCell(), line.insertCell()];
    return { row, before, after, saved };
  });
  const choice = it.parts.context;
  if (choice.dataset.choices !== String(meter.contexts)) {
    const chosen = choice.value || String(meter.contexts[0]);
    choice.dataset.choices = String(meter.contexts);
    choice.replaceChildren(...meter.contexts.map((tokens) => new Option(`${tokens.toLocaleString("en-US")} tokens`, tokens)));
    if (meter.contexts.includes(Number(chosen))) choice.value = chosen;
  }
  it.meterRows.forEach(({ row, before }) => write(before, writeQuantity(amount(it, row, row.whole), row.unit)));
}

// How many bits a weight has is chosen in its row.
function labelBits(it, label) {
  const choice = document.createElement("select");
  choice.append(...BITS.map((bits) => new Option(`${bits} bits`, bits, false, bits === it.bits)));
  choice.onchange = () => {
    it.bits = Number(choice.value);
    buildMeter(it, it.data.meter);
    drawMeter(it);
    it.root.querySelector(".meter tbody select").focus();
  };
  const named = document.createElement("label");
  named.append(`${label}, `, choice);
  return named;
}

function amount(it, row, amounts) {
  const found = amounts[Math.max(0, it.parts.context.selectedIndex)];
  return row.unit === "weights" ? (found * it.bits) / 8 : found;
}

function drawMeter(it) {
  const { meter } = it.data;
  const { layers, off } = it;
  for (const { row, after, saved } of it.meterRows) {
    const whole = amount(it, row, row.whole);
    let left = whole;
    for (let layer = 0; layer < layers; layer++) {
      const state = Number(off[layer]) + 2 * Number(off[layers + layer]);
      if (state) left -= amount(it, row, row.saved[meter.kinds[layer]][state - 1]);
    }
    write(after, writeQuantity(left, row.unit));
    write(saved, whole ? `${(100 * (1 - left / whole)).toFixed(1)}%` : "–");
  }
}

function drawPace(it) {
  const { decodeSpeed } = it.data;
  write(it.parts.speedBefore, decodeSpeed?.before ?? "–");
  write(it.parts.speedAfter, decodeSpeed?.after ?? "–");
  write(it.parts.speedNote, decodeSpeed?.note ?? "");
}
