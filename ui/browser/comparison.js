// Variants as the columns of a table. All that is written here was somebody's text: it goes in as text, never as markup.

function put(parent, name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return parent.appendChild(made);
}

function thumbnail(cell, variant) {
  const picture = put(cell, "div", undefined, { class: "thumbnail", role: "img", "aria-label": `Variant: ${variant.title}` });
  picture.style.setProperty("--layers", variant.cells.length / 2);
  for (const state of variant.cells) put(picture, "i", undefined, state === "1" ? { class: "off" } : {});
}

export default function ({ parentElement: root, data, setTriggerValue }) {
  const box = root.querySelector(".comparison");
  box.replaceChildren();
  const table = put(box, "table");
  const head = put(put(table, "thead"), "tr");
  put(head, "td");
  data.variants.forEach((variant) => {
    const cell = put(head, "th", undefined, { scope: "col" });
    put(cell, "span", variant.name, { class: "name" });
    if (variant.name !== variant.title) put(cell, "div", variant.title, { class: "title" });
    thumbnail(cell, variant);
  });
  const body = put(table, "tbody");
  const row = (label, fill, kind = "") => {
    const line = put(body, "tr", undefined, { class: kind });
    put(line, "th", label, { scope: "row" });
    data.variants.forEach((variant, index) => fill(put(line, "td"), variant, index));
  };
  data.labels.forEach((label, place) => row(label, (cell, variant) => {
    put(cell, variant.values[place].best ? "b" : "span", variant.values[place].text);
    if (!place && !variant.known) cell.className = "awaited";
  }, place ? "" : "value"));
  data.prompts.forEach((prompt, place) => row(prompt, (cell, variant) => { cell.textContent = variant.texts[place]; }, "sample"));
  row("", (cell, variant, index) => {
    const words = variant.chosen ? [["Set this", "open"], ["Remove", "remove"]] : [["Set this", "open"]];
    for (const [word, trigger] of words) {
      put(cell, "button", word, { type: "button", "aria-label": `${word}: ${variant.name}` }).onclick = () => setTriggerValue(trigger, index);
    }
  });
}
