// What everybody waits for: a line for each, and a button where anybody may stop it. What was written by somebody goes in as text.
const HELD = "Numbers come once a second: something between this browser and the server holds them back.";

function paintWork({ parentElement: root, data, setTriggerValue }) {
  const box = root.querySelector(".work");
  const say = () => { box.querySelector(".held").textContent = TAB.held ? HELD : ""; };
  TAB.told.clear();
  TAB.told.add(say);
  say();
  box.querySelector(".lines").textContent = data.words;
  const stops = box.querySelector(".stops");
  const shown = JSON.stringify(data.stops);
  if (stops.dataset.shown === shown) return;
  stops.dataset.shown = shown;
  stops.replaceChildren(...data.stops.map(([key, words]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = words;
    button.onclick = () => setTriggerValue("stop", key);
    return button;
  }));
}

export default live(paintWork);
