// Undo and redo: masks as texts of cells. They outlive a change of page and a reload, as long as the tab is open.
const MOST_UNDONE = 200;
const HISTORY = "layer-redundancy-explorer/undo";

function goBack(it, from, to) {
  const key = from.pop();
  if (key === undefined) return;
  to.push(it.committed);
  it.off = [...key].map((cell) => cell === "1");
  repaint(it);
  send(it);
}

function commit(it) {
  const key = keyOf(it.off);
  if (key === it.committed) return;
  it.undone.push(it.committed);
  if (it.undone.length > MOST_UNDONE) it.undone.shift();
  it.redone = [];
  send(it);
}

function send(it) {
  it.committed = keyOf(it.off);
  it.said = "";
  speak(it);
  remember(it);
  drawHistory(it);
  it.send("off", { cells: it.committed, revision: it.revision, at: Date.now() }); // back at what was sent last it is a gesture all the same
}

function drawHistory(it) {
  it.parts.undo.disabled = !it.undone.length;
  it.parts.redo.disabled = !it.redone.length;
  it.parts.clear.disabled = !it.committed.includes("1");
}

function remember(it) {
  const { model, layers, undone, redone, committed } = it;
  try {
    sessionStorage.setItem(HISTORY, JSON.stringify({ model, layers, undone, redone, committed }));
  } catch { /* no room, or not allowed: the history ends with the page */ }
}

// Take up the history of the model that the tab showed last; another model has none.
function recall(it, model) {
  let kept = null;
  try {
    kept = JSON.parse(sessionStorage.getItem(HISTORY));
  } catch { /* nothing that was written here */ }
  const nothing = { undone: [], redone: [], committed: "" };
  const { undone, redone, committed } = kept?.model === model && kept.layers === it.layers ? kept : nothing;
  Object.assign(it, { model, undone, redone, committed });
}
