// Sample texts: original and pruned side by side. Words that differ are struck out on one side and underlined on the other.
// Whatever a prompt or a model wrote goes into the page as text, never as markup.
const SAMPLES = new WeakMap();

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function buildSample() {
  const card = element("section", "sample");
  const prompt = card.appendChild(element("h3", "prompt"));
  const sides = card.appendChild(element("div", "sides"));
  const columns = ["Original", "Pruned"].map((title) => {
    const column = sides.appendChild(element("div", "side"));
    column.append(element("h4", "", title));
    return { text: column.appendChild(element("p", "text")), note: column.appendChild(element("p", "note")), key: "" };
  });
  return { card, prompt, columns };
}

function drawSide(column, side, mark) {
  const key = JSON.stringify([side, mark]);
  if (column.key === key) return;
  column.key = key;
  column.text.replaceChildren(...side.pieces.map(([text, differs]) =>
    differs ? element(mark, "", text) : document.createTextNode(text)));
  if (side.state) column.text.append(element("span", "state", side.state));
  column.note.textContent = side.note;
}

export default function ({ parentElement: root, data }) {
  const box = root.querySelector(".samples");
  let cards = SAMPLES.get(root);
  if (!cards || !box.isConnected || cards.length !== data.length || !box.children.length) {
    cards = data.map(buildSample);
    box.replaceChildren(...cards.map(({ card }) => card));
    SAMPLES.set(root, cards);
  }
  data.forEach((sample, index) => {
    const { card, prompt, columns } = cards[index];
    if (prompt.textContent !== sample.prompt) prompt.textContent = sample.prompt;
    card.setAttribute("aria-label", `Sample ${index + 1}`);
    drawSide(columns[0], sample.original, "del");
    drawSide(columns[1], sample.pruned, "ins");
  });
}
