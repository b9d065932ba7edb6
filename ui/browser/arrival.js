// What a page writes into the address on arriving takes the place of what led here, unless somebody has gone on since.
const ARRIVED = (window.layerExplorerArrived ??= { arrival: 0, query: "" });

export default function ({ data }) {
  if (data.arrival === ARRIVED.arrival) return;
  const here = new URLSearchParams(location.search).toString();
  const there = [data.came, ARRIVED.query].map((query) => new URLSearchParams(query).toString());
  Object.assign(ARRIVED, data);
  if (there.includes(here)) history.replaceState(history.state, "", `${location.pathname}?${data.query}${location.hash}`);
}
