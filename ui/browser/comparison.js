// Pins as the columns of a table. All that is written here was somebody's text: it goes in as text, never as markup.

function put(parent, name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return parent.appendChild(made);
}

function thumbnail(cell, pin) {
  const layers = pin.cells.length / 2;
  const picture = put(cell, "div", undefined, { class: "thumbnail", role: "img", "aria-label": `Removed: ${pin.rows[0][1]}` });
  picture.style.setProperty("--layers", layers);
  for (const state of pin.cells) put(picture, "i", undefined, state === "1" ? { class: "off" } : {});
}

export default function ({ parentElement: root, data, setTriggerValue }) {
  const box = root.querySelector(".comparison");
  box.replaceChildren();
  const table = put(box, "table");
  const head = put(put(table, "thead"), "tr");
  put(head, "td");
  data.pins.forEach((pin, index) => {
    const cell = put(head, "th", undefined, { scope: "col" });
    put(cell, "span", `Pin ${index + 1}`, { class: "name" });
    thumbnail(cell, pin);
  });
  const body = put(table, "tbody");
  const row = (label, fill, kind = "") => {
    const line = put(body, "tr", undefined, { class: kind });
    put(line, "th", label, { scope: "row" });
    data.pins.forEach((pin, index) => fill(put(line, "td"), pin, index));
  };
  row(data.label, (cell, pin) => { cell.textContent = pin.perplexity; }, "value");
  data.pins[0].rows.forEach(([label], place) => row(label, (cell, pin) => { cell.textContent = pin.rows[place][1]; }));
  data.prompts.forEach((prompt, place) => row(prompt, (cell, pin) => { cell.textContent = pin.texts[place]; }, "sample"));
  row("", (cell, pin, index) => {
    for (const [word, trigger] of [["Open", "open"], ["Remove", "remove"]]) {
      put(cell, "button", word, { type: "button", "aria-label": `${word} pin ${index + 1}` }).onclick = () => setTriggerValue(trigger, index);
    }
  });
}
