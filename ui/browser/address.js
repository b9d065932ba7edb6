// The page's address: what is written on arriving takes the place of what led here, and going back or forward on the page
// that is shown is told. For another page Streamlit asks by itself.
const GOING = (window.layerExplorerGoing ??= listenToGoing());

function listenToGoing() {
  const going = { path: "", arrival: 0, put: "", tell: () => {} };
  window.addEventListener("popstate", () => location.pathname === going.path && going.tell());
  return going;
}

export default function ({ data, setStateValue }) {
  GOING.path = location.pathname;
  GOING.tell = () => setStateValue("went", { query: location.search.slice(1), at: Date.now() });
  if (data.arrival === GOING.arrival) return;
  const here = new URLSearchParams(location.search).toString();
  const there = [data.came, GOING.put].map((query) => new URLSearchParams(query).toString());
  GOING.arrival = data.arrival;
  GOING.put = data.query;
  if (there.includes(here)) history.replaceState(history.state, "", `${location.pathname}?${data.query}${location.hash}`);
}
