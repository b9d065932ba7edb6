// What the server tells this tab: one stream for all components of the page, whose modules share the object below.
// It says which panels are to run again, which their bells then ask for, and what has changed in what a component shows.
const PAGE = 0, GONE = 410; // the page's own bell; what the server answers of a tab that it does not know
const QUIET = 6000, ASK = 1000, ASK_HIDDEN = 15000, TRY_AGAIN = 20000, UNHEARD = 3000, LEFT = 15000, ACTED = 300; // milliseconds
const DEAF = 4; // bells in a row that were not heard
const COUNTED = { begun: 0, begunAt: 0, seen: 0, rung: null, rungAt: 0, unheard: 0, page: 0, left: -1, leftAt: 0 }; // of a new tab
const TAB = (window.layerExplorerTab ??= makeTab());

function makeTab() {
  const tab = {
    name: "", former: new Set(), source: null, quiet: 0, timer: 0, tries: 0, held: false, told: new Set(),
    bells: new Map(), painted: new Map(), early: new Map(), due: new Map(), waiting: 0, missing: 0,
    actedAt: -ACTED, ...COUNTED,
  };
  const leave = () => { [tab.left, tab.leftAt] = [tab.page, performance.now()]; };
  document.addEventListener("click", (event) => event.composedPath().some(leadsAway) && leave(), true);
  window.addEventListener("popstate", () => location.hash || leave(), true);
  const act = () => { tab.actedAt = performance.now(); };
  for (const kind of ["click", "pointerup", "change"]) document.addEventListener(kind, act, true);
  document.addEventListener("visibilitychange", () => tab.name && listenToTab(tab, true));
  return tab;
}

function leadsAway(element) {
  return element.tagName === "A" && element.origin === location.origin && !element.target && !element.download;
}

function address(tab, again) {
  const base = window.explorerAddress ?? new URL("/", location.href).href;
  return new URL(`api/tabs/${tab.name}${again ? "?again=1" : ""}`, base).href;
}

// A session has a tab of its own. What another one counted, which may be another server's, says nothing of this one; and what
// is left on the page of one that has ended is not heard any more.
function joinTab(name) {
  if (TAB.name === name || TAB.former.has(name)) return TAB.name === name;
  TAB.former.add(TAB.name);
  for (const table of [TAB.bells, TAB.painted, TAB.early, TAB.due]) table.clear();
  clearTimeout(TAB.missing);
  Object.assign(TAB, { name, held: false, ...COUNTED });
  listenToTab(TAB, false);
  return true;
}

// A hidden tab asks now and then: a browser opens few connections to a server, and the tab that is looked at needs one.
function listenToTab(tab, again) {
  stopListening(tab);
  clearTimeout(tab.timer);
  tab.timer = 0;
  if (document.hidden) return askSoon(tab, again, 0);
  if (tab.held) {
    tab.tries = setTimeout(() => openStream(tab, true), TRY_AGAIN);
    return askSoon(tab, again, 0);
  }
  openStream(tab, again);
}

function stopListening(tab) {
  tab.source?.close();
  tab.source = null;
  clearTimeout(tab.quiet);
  clearTimeout(tab.tries);
}

function openStream(tab, again) {
  const source = (tab.source = new EventSource(address(tab, again)));
  tab.quiet = setTimeout(() => holdBack(tab), QUIET);
  source.onmessage = ({ data }) => {
    clearTimeout(tab.quiet);
    if (tab.held) setHeld(tab, false);
    hearNews(tab, JSON.parse(data));
  };
  source.onerror = () => {
    if (tab.source !== source) return;
    stopListening(tab); // the browser's own second try would not have told again what was said meanwhile
    listenAgain(tab);
  };
}

// A stream that broke off does not say why: the server is asked first, which may be another one by now.
function listenAgain(tab) {
  clearTimeout(tab.timer);
  const timer = (tab.timer = setTimeout(async () => {
    const heard = await ask(tab, true);
    if (tab.timer !== timer) return;
    if (heard) listenToTab(tab, false);
    else listenAgain(tab);
  }, ASK));
}

// Something between here and the server keeps the stream to itself: what it holds is asked for, and the stream tried later.
function holdBack(tab) {
  setHeld(tab, true);
  listenToTab(tab, true);
}

function setHeld(tab, held) {
  tab.held = held;
  for (const listener of tab.told) listener();
}

function askSoon(tab, again, pause) {
  const timer = (tab.timer = setTimeout(async () => {
    const heard = await ask(tab, again);
    if (tab.timer === timer && (document.hidden || tab.held)) askSoon(tab, !heard, document.hidden ? ASK_HIDDEN : ASK);
  }, pause));
}

// Tells whether the server had something to say of this tab. One that does not know it has begun anew, or has waited too long:
// then the page is to run, which Streamlit asks for by itself only where its last run was not through, or was of a panel.
async function ask(tab, again) {
  const { name } = tab;
  try {
    const answer = await fetch(address(tab, again)), said = await answer.json();
    if (tab.name !== name) return false;
    if (answer.ok) hearNews(tab, said);
    if (answer.status === GONE) ringPage(tab);
    return answer.ok;
  } catch {
    return false; // the server is away; it is asked again
  }
}

function ringPage(tab) {
  tab.due.clear();
  tab.due.set(PAGE, tab.bells.get(PAGE)?.run);
  ringDue(tab);
}

function hearNews(tab, { run = [], paint = {}, ran = [] }) {
  const begun = Math.max(0, ...ran.map(([, last]) => last));
  if (begun > tab.begun) {
    [tab.begun, tab.begunAt] = [begun, performance.now()];
    clearTimeout(tab.missing);
    tab.missing = setTimeout(() => ringMissed(tab, ran), UNHEARD);
  }
  for (const [key, [serial, changes]] of Object.entries(paint)) {
    try {
      repaintLive(tab, key, serial, changes);
    } catch (error) { // of one component: the others go on
      console.error(error);
    }
  }
  for (const [number, last] of run) {
    if (!(tab.bells.get(number)?.run > last)) tab.due.set(number, last);
  }
  ringDue(tab);
}

// Bells wait until the page rests, and until it has heard of the last run that the server began: what is asked for while it
// runs may belong to a page that is about to go, and tells what a run has changed as it was before. One bell after the
// other: of two runs in a hurry Streamlit's frontend leaves what the first took away. A bell that was not heard is rung again;
// after some the page's own is: a session that waited too long for its browser is another one now, and knows no panels.
// None rings right after somebody did something either: what that has drawn would be left, too.
// None rings between a click on a link, or a step back or forward, and the page that it leads to: Streamlit would run it after
// that, as one of the page that was left, and the browser would show neither.
function ringDue(tab) {
  clearTimeout(tab.waiting);
  const state = document.querySelector("[data-test-script-state]")?.dataset.testScriptState;
  const there = (number) => tab.bells.get(number)?.root.isConnected;
  const now = performance.now();
  const rests = state === undefined || state === "notRunning";
  if (tab.rung !== null && rests && now > tab.rungAt + UNHEARD) {
    tab.rung = null;
    if (++tab.unheard === DEAF) return ringPage(tab);
  }
  if (tab.rung !== null && !there(tab.rung)) tab.rung = null;
  const heard = tab.seen >= tab.begun || now > tab.begunAt + UNHEARD;
  const leaving = tab.page === tab.left && now < tab.leftAt + LEFT, acting = now < tab.actedAt + ACTED;
  if (tab.rung === null && heard && !leaving && !acting && rests) {
    const number = [...tab.due.keys()].find(there);
    if (number !== undefined) {
      tab.rung = number;
      tab.rungAt = now;
      tab.bells.get(number).ring();
    }
  }
  if (tab.due.size) tab.waiting = setTimeout(() => ringDue(tab), 20);
}

// Now and then Streamlit's frontend leaves what a run has drawn; and what is painted belongs to that.
function ringMissed(tab, ran) {
  for (const [number, last] of ran) {
    const seen = tab.bells.get(number)?.run;
    if (seen < last) tab.due.set(number, seen);
  }
  ringDue(tab);
}

// A panel has run: what it was told to run for before that is done with.
function answerBell(tab, { panel, run, page }, bell) {
  if (tab.bells.get(panel)?.run !== run) {
    if (tab.rung === panel) tab.rung = null;
    tab.unheard = 0;
  }
  if (run > (tab.due.get(panel) ?? run)) tab.due.delete(panel);
  tab.bells.set(panel, { ...bell, run });
  tab.seen = Math.max(tab.seen, run);
  tab.page = Math.max(tab.page, page);
  ringDue(tab);
}

function repaintLive(tab, key, serial, changes) {
  const shown = tab.painted.get(key);
  if (shown?.serial === serial) {
    Object.assign(shown.changes, changes);
    if (shown.given.parentElement.isConnected) shown.paint();
  } else if (!shown || shown.serial < serial) {
    const early = tab.early.get(key);
    tab.early.set(key, { serial, changes: { ...(early?.serial === serial ? early.changes : {}), ...changes } });
  }
}

// What Streamlit calls to paint a component; it is called again when the stream has more, which may be there already.
function live(paint) {
  return (given) => {
    const { tab, key, serial } = given.data.painting;
    if (!joinTab(tab)) return paint(given);
    const before = TAB.painted.get(key), early = TAB.early.get(key);
    const changes = before?.serial === serial ? before.changes : early?.serial === serial ? early.changes : {};
    const shown = { serial, changes, given };
    shown.paint = () => paint({ ...given, data: { ...given.data, ...shown.changes } });
    TAB.painted.set(key, shown);
    shown.paint();
  };
}
