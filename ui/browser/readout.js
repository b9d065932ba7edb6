// The key number: its lines are always there, so that nothing moves when they fill.

function drawReadout(it, value) {
  const { parts, data } = it;
  const estimate = value.kind === "estimate";
  write(parts.value, value.kind === "none" ? "…" : (estimate ? "≈ " : "") + writePerplexity(value.nll));
  write(parts.tag, value.kind === "none" ? "waiting" : value.kind);
  if (parts.tag.dataset.kind !== value.kind) parts.tag.dataset.kind = value.kind;
  write(parts.interval, intervalOf(value));
  write(parts.detail, detailOf(value, data));
}

// The recovered number beside the pruned one, and the whole model's; all three only while something is recovered.
function drawRecovered(it, pruned, key) {
  const { parts, data } = it;
  const shown = Boolean(data.recovery);
  if (parts.readouts.dataset.recovered !== String(shown)) parts.readouts.dataset.recovered = shown;
  write(parts.name, shown ? "Pruned" : "Perplexity");
  if (!shown) return null;
  const value = recoveredOf(it, key);
  const none = value.kind === "none";
  write(parts.recoveredValue, none ? "–" : (value.kind === "estimate" ? "≈ " : "") + writePerplexity(value.nll));
  write(parts.recoveredTag, none ? "waiting" : value.kind);
  if (parts.recoveredTag.dataset.kind !== value.kind) parts.recoveredTag.dataset.kind = value.kind;
  write(parts.recoveredInterval, value.kind === "stale" ? value.why : intervalOf(value));
  write(parts.recoveredDetail, shareOf(value, pruned, data));
  const whole = data.baseline;
  write(parts.whole, whole ? `Whole: ${writePerplexity(whole[0])}, measured, ${intervalOf({ kind: "measured", nll: whole[0], low: whole[1], high: whole[2], why: whole[6] })}` : "Whole: waiting");
  return value;
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

function intervalOf(value) {
  if (value.kind === "none" || value.nll === null) return value.why;
  if (value.low !== null) {
    const words = `95% interval ${writePerplexity(value.low)} to ${writePerplexity(value.high)}`;
    return value.kind === "estimate" ? `${words}, ${value.why}` : words;
  }
  return value.kind === "estimate" ? value.why : "no interval from a single window";
}

function detailOf(value, data) {
  if (value.kind === "none" || value.nll === null || !data.baseline || data.baseline[0] === null) return "";
  const against = `against ${writePerplexity(data.baseline[0])}`;
  if (value.kind === "estimate") return `${signed(value.nll - data.baseline[0])} nats a token ${against}`;
  const [, , , delta, low, high] = value.score;
  if (delta === null) return `${data.tokens.toLocaleString("en-US")} held-out tokens`;
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
