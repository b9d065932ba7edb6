// What is known of a mask, best first: what was measured; estimated, by the worker on the windows so far or, between two
// measured steps of the plan, by a straight line in nats; rough, the nearest measured mask plus what single sites cost, and pairs of layers where those are known.
// A score travels as [nll, low, high, difference, its low, its high, overflow], all in nats a token; where the model's
// arithmetic overflowed there is no nll, and words that say so.

const keyOf = (off) => off.map(Number).join("");

function indexPlan(it, plan) {
  it.steps = [];
  it.stepOf = new Map();
  if (!plan) return;
  const off = new Array(2 * it.layers).fill(false);
  plan.changes.forEach((cells, step) => {
    for (const cell of cells) off[cell] = !off[cell];
    const mask = off.slice();
    it.steps.push({ off: mask, key: keyOf(mask), removed: mask.filter(Boolean).length });
    if (!it.stepOf.has(it.steps[step].key)) it.stepOf.set(it.steps[step].key, step);
  });
}

function valueOf(it, key) {
  const { data } = it;
  const step = it.stepOf.get(key);
  const score = data.known[key] ?? (step === undefined ? null : data.plan.scores[step]) ?? single(data, key);
  if (score) return { kind: "measured", nll: score[0], low: score[1], high: score[2], score, why: score[6] ?? "measured" };
  if (data.live?.off === key) return estimated(data.live);
  return interpolate(it, step) ?? addDamages(it, key) ?? { kind: "none", nll: null, why: data.failed || "measuring" };
}

// What is known of the recovered model under a mask. What was made for another mask is stale.
function recoveredOf(it, key) {
  const { recovery } = it.data;
  const step = it.stepOf.get(key);
  const score = recovery.known[key] ?? (step === undefined ? null : recovery.steps[step]);
  if (score) return { kind: "measured", nll: score[0], low: score[1], high: score[2], score, why: score[6] ?? "measured" };
  if (recovery.live?.off === key) return estimated(recovery.live);
  const stale = recovery.last && { kind: "stale", nll: recovery.last.score[0], low: null, high: null, why: recovery.why };
  return interpolate(it, step, recovery.steps) ?? stale ?? { kind: "none", nll: null, why: recovery.why };
}

// The share of the nats lost to the mask that was won back; null where none were lost.
function wonBack(whole, pruned, recovered) {
  if ([whole, pruned, recovered].includes(null) || pruned <= whole) return null;
  return (pruned - recovered) / (pruned - whole);
}

function estimated(live) {
  const [nll, low, high] = live.score;
  return { kind: "estimated", nll, low, high, why: `from ${live.windows} of ${live.of} windows` };
}

function single(data, key) {
  const cell = key.indexOf("1");
  return cell >= 0 && key.indexOf("1", cell + 1) < 0 ? data.leaveOneOut[cell] : null;
}

function interpolate(it, step, scores = it.data.plan?.scores) {
  if (step === undefined) return null;
  let [below, above] = [step, step];
  while (below >= 0 && !scores[below]) below--;
  while (above < scores.length && !scores[above]) above++;
  if (below < 0 || above >= scores.length || scores[below][0] === null || scores[above][0] === null) return null;
  const part = above === below ? 0 : (step - below) / (above - below);
  const nll = scores[below][0] * (1 - part) + scores[above][0] * part;
  return { kind: "estimated", nll, low: null, high: null, why: `between the measured steps ${below} and ${above}` };
}

// From the measured masks that differ in the fewest sites, the damages of those added or taken back, and of pairs; the
// mean of all.
function addDamages(it, key) {
  const rate = (it.rate ??= rateOf(it.data));
  const found = listNearest(it, key).map((nearest) => addToNearest(it.data, rate, nearest, key)).filter(Boolean);
  if (!found.length) return null;
  const nll = found.reduce((sum, each) => sum + each.nll, 0) / found.length;
  const by = found.some((each) => each.guessed) ? "block influence" : it.data.pairs ? "single damages and pairs" : "single damages";
  return { kind: "rough", nll, low: null, high: null, why: `from the nearest measured mask by ${by}` };
}

function addToNearest(data, rate, nearest, key) {
  let { nll } = nearest, guessed = false;
  for (let cell = 0; cell < key.length; cell++) {
    if (key[cell] === nearest.key[cell]) continue;
    const damage = damageOf(data, cell), guess = rate * (data.influence?.sites[cell] ?? NaN);
    if (damage === null && !Number.isFinite(guess)) return null;
    guessed ||= damage === null;
    nll += (key[cell] === "1" ? 1 : -1) * (damage ?? guess);
  }
  return { nll: nll + addPairs(data, key) - addPairs(data, nearest.key), guessed };
}

// What whole layers that are off cost beyond each site alone. Rows of pairs begin with the layer itself.
function addPairs({ pairs }, key) {
  let sum = 0;
  const layers = (pairs ?? []).map((_, layer) => layer).filter((layer) => key[layer] === "1" && key[pairs.length + layer] === "1");
  layers.forEach((one, at) => layers.slice(at).forEach((other) => { sum += pairs[one][other - one] ?? 0; }));
  return sum;
}

function listNearest(it, key) {
  const { known, baseline, plan } = it.data;
  const steps = it.steps.map((step, index) => [step.key, plan?.scores[index]]);
  const masks = new Map([...steps, ...Object.entries(known)]);
  const whole = "0".repeat(key.length);
  if (!masks.get(whole)?.length || masks.get(whole)[0] === null) masks.set(whole, baseline);
  let nearest = [], fewest = Infinity;
  for (const [other, score] of masks) {
    if (!score || score[0] === null) continue;
    let apart = 0;
    for (let cell = 0; cell < key.length; cell++) apart += other[cell] !== key[cell];
    if (apart < fewest) [nearest, fewest] = [[], apart];
    if (apart === fewest) nearest.push({ key: other, nll: score[0] });
  }
  return nearest;
}

const damageOf = (data, cell) => data.leaveOneOut[cell]?.[3] ?? null;

// Nats lost for each unit of block influence: the median of the sites whose damage is measured, 1 while none is.
function rateOf({ leaveOneOut, influence }) {
  const rates = leaveOneOut
    .map((score, cell) => score?.[3] / influence?.sites[cell])
    .filter((rate) => rate > 0 && Number.isFinite(rate))
    .sort((a, b) => a - b);
  return rates.length ? rates[rates.length >> 1] : 1;
}

const markOf = ({ kind }) => ({ estimated: "≈ ", rough: "~ " })[kind] ?? "";

function writePerplexity(nll) {
  if (nll === null) return "overflow";
  const value = Math.exp(nll);
  if (!Number.isFinite(value)) return "∞";
  if (value >= 1e5) return value.toExponential(2).replace(/e\+(\d)$/, "e+0$1");
  return value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}

const percent = (share) => `${(100 * share).toFixed(1).replace("-", "−")}%`;

const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(4);
