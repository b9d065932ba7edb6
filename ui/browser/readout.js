// The key number: its lines are always there, so that nothing moves when they fill.

function drawReadout(it, value) {
  const { parts, data } = it;
  write(parts.value, value.kind === "none" ? "–" : markOf(value) + writePerplexity(value.nll));
  write(parts.tag, value.kind === "none" ? "waiting" : value.kind);
  tell(parts.tag, value.kind);
  write(parts.interval, intervalOf(value));
  write(parts.detail, detailOf(value, data));
  write(parts.bits, value.nll === null || !data.tokens ? "" : bitsOf(value.nll, data));
}

// The recovered number beside the pruned one, and the whole model's; all three only while something is recovered.
function drawRecovered(it, pruned, key) {
  const { parts, data } = it;
  const shown = Boolean(data.recovery);
  if (parts.readouts.dataset.recovered !== String(shown)) parts.readouts.dataset.recovered = shown;
  write(parts.name, shown ? "Perplexity, pruned" : "Perplexity");
  if (!shown) return null;
  const value = recoveredOf(it, key);
  const none = value.kind === "none";
  write(parts.recoveredValue, none ? "–" : markOf(value) + writePerplexity(value.nll));
  write(parts.recoveredTag, none ? "waiting" : value.kind);
  tell(parts.recoveredTag, value.kind);
  write(parts.recoveredInterval, value.kind === "stale" ? value.why : intervalOf(value));
  write(parts.recoveredDetail, shareOf(value, pruned, data));
  const whole = data.baseline;
  write(parts.whole, whole ? `Whole: ${writePerplexity(whole[0])}, measured, ${intervalOf({ kind: "measured", nll: whole[0], low: whole[1], high: whole[2], why: whole[6] })}` : "Whole: waiting");
  return value;
}

const KINDS = {
  measured: "Scored on every held-out window, under this very mask.",
  estimated: "From the held-out windows so far, or on the line between two measured steps of the plan.",
  rough: "The nearest measured mask plus what each site costs alone, and each pair of layers where Analyse has scored them; block influence stands in for what is not measured yet.",
  stale: "Made for another mask than the one that is set.",
};

function tell(tag, kind) {
  if (tag.dataset.kind === kind) return;
  tag.dataset.kind = kind;
  tag.title = KINDS[kind] ?? "";
}

function shareOf(value, pruned, data) {
  if (value.kind === "none" || value.kind === "stale" || pruned.kind === "none" || !data.baseline) return "";
  const share = wonBack(data.baseline[0], pruned.nll, value.nll);
  if (share === null) return "";
  const measured = value.kind === "measured" && pruned.kind === "measured";
  const [low, high] = (measured && value.score.slice(7)) || [];
  const interval = low == null ? "" : ` [${percent(low)}, ${percent(high)}]`;
  return `${measured ? "" : "≈ "}${percent(share)}${interval} of the lost nats won back`;
}

// The measure that models of different tokenizers can be compared by; there is none where tokens stand for no text.
function bitsOf(nll, { tokens, bytes }) {
  const measured = `${tokens.toLocaleString("en-US")} held-out tokens`;
  return bytes ? `${((nll * tokens) / Math.LN2 / bytes).toFixed(4)} bits per byte, ${measured}` : measured;
}

function intervalOf(value) {
  if (value.kind === "none" || value.nll === null) return value.why;
  if (value.low !== null) {
    const words = `95% interval ${writePerplexity(value.low)} to ${writePerplexity(value.high)}`;
    return value.kind === "estimated" ? `${words}, ${value.why}` : words;
  }
  return markOf(value) ? value.why : "no interval from a single window";
}

function detailOf(value, data) {
  if (value.kind === "none" || value.nll === null || !data.baseline || data.baseline[0] === null) return "";
  const against = `against ${writePerplexity(data.baseline[0])}`;
  if (markOf(value)) return `${signed(value.nll - data.baseline[0])} nats a token ${against}`;
  const [, , , delta, low, high] = value.score;
  if (delta === null) return "nothing is off";
  return `${signed(delta)} nats a token${low === null ? "" : ` [${signed(low)}, ${signed(high)}]`} ${against}`;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Said at commits and when a value comes, never during a drag.
function announce(it, value, recovered) {
  const removed = it.off.filter(Boolean).length;
  write(it.parts.live, `${removed} of ${it.off.length} sites removed, ${inWords(value, recovered)}`);
}

function inWords(value, recovered) {
  const number = value.kind === "none" ? "perplexity not known yet" : `perplexity ${writePerplexity(value.nll)}, ${value.kind}`;
  if (!recovered) return number;
  return `${number}; recovered ${recovered.kind === "none" ? recovered.why : `${writePerplexity(recovered.nll)}, ${recovered.kind}`}`;
}
