// Keeps the pins in this browser. Pins that the server holds are written down; a server that holds none yet is given what
// was written before.
const PLACE = "layer-redundancy-explorer/pins";
const ASKED = new WeakSet();

export default function ({ parentElement: root, data, setStateValue }) {
  try {
    if (data.pins !== null) localStorage.setItem(PLACE, data.pins);
    else if (!ASKED.has(root)) {
      ASKED.add(root);
      const stored = localStorage.getItem(PLACE);
      if (stored && stored !== "[]") setStateValue("stored", stored);
    }
  } catch {
    // A browser that keeps nothing: the pins last as long as the session.
  }
}
