// Tells when somebody goes back or forward on the page that is shown. For another page Streamlit asks by itself.
const GOING = (window.layerExplorerGoing ??= listenToGoing());

function listenToGoing() {
  const going = { path: "", tell: () => {} };
  window.addEventListener("popstate", () => location.pathname === going.path && going.tell());
  return going;
}

export default function ({ setStateValue }) {
  GOING.path = location.pathname;
  GOING.tell = () => setStateValue("went", { query: location.search.slice(1), at: Date.now() });
}
