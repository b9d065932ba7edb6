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
function announce(it, value) {
  const removed = it.off.filter(Boolean).length;
  const number = value.kind === "none" ? "perplexity not known yet" : `perplexity ${writePerplexity(value.nll)}, ${value.kind}`;
  write(it.parts.live, `${removed} of ${it.off.length} sites removed, ${number}`);
}
