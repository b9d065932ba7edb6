// Sample texts: original, pruned and, if there is one, recovered side by side. Words that differ from the other side are
// struck out in the original and underlined beside it.
// Whatever a prompt or a model wrote goes into the page as text, never as markup.
const SAMPLES = new WeakMap();

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function buildSample({ sides: given }) {
  const card = element("section", "sample");
  const prompt = card.appendChild(element("h3", "prompt"));
  const sides = card.appendChild(element("div", "sides"));
  sides.dataset.sides = given.length;
  const columns = given.map(({ title }) => {
    const column = sides.appendChild(element("div", title === "Recovered" ? "side recovered" : "side"));
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

function paintSamples({ parentElement: root, data: { rows } }) {
  const box = root.querySelector(".samples");
  let cards = SAMPLES.get(root);
  if (!cards || !box.isConnected || cards.length !== rows.length || !box.children.length ||
      cards.some(({ columns }, index) => columns.length !== rows[index].sides.length)) {
    cards = rows.map(buildSample);
    box.replaceChildren(...cards.map(({ card }) => card));
    SAMPLES.set(root, cards);
  }
  rows.forEach((sample, index) => {
    const { card, prompt, columns } = cards[index];
    if (prompt.textContent !== sample.prompt) prompt.textContent = sample.prompt;
    card.setAttribute("aria-label", `Sample ${index + 1}`);
    sample.sides.forEach((side, place) => drawSide(columns[place], side, place ? "ins" : "del"));
  });
}

export default (given) => (given.data.painting ? live(paintSamples) : paintSamples)(given);
