// An element of an SVG -> its outline as operators of a PDF, placed by a matrix.

const COUNTS = { M: 2, L: 2, H: 1, V: 1, C: 6, Q: 4, A: 7, Z: 0 }; // what plotly writes

function trace(element, matrix) {
  return listSegments(outline(element))
    .map(([operator, ...values]) => {
      const points = values.flatMap((value, at) => (at % 2 ? [] : [place(matrix, value, values[at + 1])]));
      return [...points, operator].join(" ");
    })
    .join(" ");
}

// What an element draws, as the data of a path.
function outline(element) {
  const value = (name) => element[name].baseVal.value;
  if (element.tagName === "path") return element.getAttribute("d") ?? "";
  if (element.tagName === "rect") return `M${value("x")} ${value("y")}h${value("width")}v${value("height")}h${-value("width")}z`;
  if (element.tagName === "line") return `M${value("x1")} ${value("y1")}L${value("x2")} ${value("y2")}`;
  if (element.tagName !== "circle") return "";
  const r = value("r");
  return `M${value("cx") - r} ${value("cy")}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
}

// A path as moves (m), lines (l), cubic curves (c) and closings (h), in absolute coordinates.
function listSegments(data) {
  const found = [];
  let [x, y, start] = [0, 0, [0, 0]];
  for (const [letter, values] of listCommands(data)) {
    const name = letter.toUpperCase();
    const [ox, oy] = letter === name ? [0, 0] : [x, y];
    const from = [x, y];
    if (name === "H") x = values[0] + ox;
    else if (name === "V") y = values[0] + oy;
    else if (name === "Z") [x, y] = start;
    else [x, y] = [values.at(-2) + ox, values.at(-1) + oy];
    if (name === "M") start = [x, y];
    if (name === "Z") found.push(["h"]);
    else if (name === "A") found.push(...bendArc(from, values, [x, y]));
    else if (name === "C") found.push(["c", ...values.map((value, at) => value + (at % 2 ? oy : ox))]);
    else if (name === "Q") {
      const bend = (end, at) => end + (2 / 3) * (values[at] + (at ? oy : ox) - end);
      found.push(["c", bend(from[0], 0), bend(from[1], 1), bend(x, 0), bend(y, 1), x, y]);
    } else found.push([name === "M" ? "m" : "l", x, y]);
  }
  return found;
}

// The commands of a path, each with as many numbers as it takes; after a move further pairs are lines.
function* listCommands(data) {
  for (const [, letter, rest] of data.matchAll(/([a-df-z])([^a-df-z]*)/gi)) {
    const count = COUNTS[letter.toUpperCase()];
    if (count === undefined) throw new Error(`a path has the command ${letter}`);
    const values = (rest.match(/[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?/gi) ?? []).map(Number);
    if (count === 0) yield [letter, []];
    for (let at = 0; count && at + count <= values.length; at += count) {
      yield [(at && { M: "L", m: "l" }[letter]) || letter, values.slice(at, at + count)];
    }
  }
}

// An arc of an upright ellipse as cubic curves of at most a quarter each, by the construction of SVG 1.1, F.6.5.
function bendArc([x1, y1], [rx, ry, , large, sweep], [x2, y2]) {
  if (!rx || !ry) return [["l", x2, y2]];
  const [dx, dy] = [(x1 - x2) / 2 / rx, (y1 - y2) / 2 / ry]; // on the unit circle
  const half = Math.min(1, Math.hypot(dx, dy));
  const grown = Math.max(1, Math.hypot(dx, dy)); // radii that are too short grow
  const off = (half ? Math.sqrt(1 - half * half) / half : 0) * (Boolean(large) === Boolean(sweep) ? -1 : 1);
  const [cx, cy] = [(off * dy) / grown, (-off * dx) / grown];
  const first = Math.atan2(dy / grown - cy, dx / grown - cx);
  let turn = Math.atan2(-dy / grown - cy, -dx / grown - cx) - first;
  if (sweep && turn <= 0) turn += 2 * Math.PI;
  if (!sweep && turn >= 0) turn -= 2 * Math.PI;
  const [across, down] = [rx * grown, ry * grown];
  const [middleX, middleY] = [(x1 + x2) / 2 + cx * across, (y1 + y2) / 2 + cy * down];
  const pieces = Math.ceil(Math.abs(turn) / (Math.PI / 2) - 1e-9);
  const step = turn / pieces;
  const reach = (4 / 3) * Math.tan(step / 4);
  return Array.from({ length: pieces }, (_, i) => {
    const [from, to] = [first + i * step, first + (i + 1) * step];
    const points = [
      [Math.cos(from) - reach * Math.sin(from), Math.sin(from) + reach * Math.cos(from)],
      [Math.cos(to) + reach * Math.sin(to), Math.sin(to) - reach * Math.cos(to)],
      [Math.cos(to), Math.sin(to)],
    ];
    return ["c", ...points.flatMap(([px, py]) => [middleX + across * px, middleY + down * py])];
  });
}
