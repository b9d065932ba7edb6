// Three steps through the instrument, once in a browser's life: beside it, never over it.
const TOURED = "explorer-tour";
const TOUR = [
  ["See", "blocks", "Each cell of the triangle is a block of layers. A bright one hardly changes what flows through it. Point at a block to see what it is; a click removes it."],
  ["Remove", "slider", "Or drag the slider, which removes layers by a plan: perplexity follows at once. Each cell of the strip is one attention or MLP."],
  ["Keep", "value", "Star what you like. Recover by, below, wins part of the loss back in seconds, Heal in minutes; Export writes the model, proven equal to what is measured here."],
];

function beginTour(it) {
  let seen = true;
  try { seen = localStorage.getItem(TOURED) !== null; } catch { /* a browser that keeps nothing would begin it every time */ }
  const { tourNext, tourSkip } = it.parts;
  tourSkip.onclick = () => endTour(it);
  tourNext.onclick = () => (it.toured + 1 < TOUR.length ? showTour(it, it.toured + 1) : endTour(it));
  if (!seen) showTour(it, 0);
}

function showTour(it, step) {
  const { tour, tourTitle, tourText, tourNext } = it.parts, [title, target, text] = TOUR[step];
  it.toured = step;
  for (const each of Object.values(it.parts)) each?.toggleAttribute("data-toured", each === it.parts[target]);
  tour.hidden = false;
  write(tourTitle, `${step + 1} of ${TOUR.length}: ${title}`);
  write(tourText, text);
  write(tourNext, step + 1 < TOUR.length ? "Next" : "Done");
}

function endTour(it) {
  for (const each of Object.values(it.parts)) each?.removeAttribute("data-toured");
  it.parts.tour.hidden = true;
  try { localStorage.setItem(TOURED, "seen"); } catch { /* then it comes again */ }
}
