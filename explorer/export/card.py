"""The README.md of an exported checkpoint: what it is, what it costs, and the command that made it."""

from __future__ import annotations

import shlex

from explorer.export.verify import Verification
from explorer.loading import LoadedModel
from explorer.masks import Mask
from explorer.records import Corpus, Costs, Interval


def make_command(loaded: LoadedModel, corpus: Corpus, mask: Mask, out: str) -> str:
    """Write the shell command that makes the same checkpoint."""
    words = ["python", "-m", "explorer", "export", "--model", loaded.spec.model, "--mask", str(mask), "--out", out]
    words += ["--text", corpus.name, "--tokens", str(corpus.tokens), "--window", str(corpus.window)]
    words += ["--bos", "always" if corpus.bos else "never", "--dtype", loaded.dtype]
    return shlex.join(words + ["--trust-remote-code"] * loaded.spec.trust_remote_code)


def describe_mask(mask: Mask) -> str:
    """Say in words what a mask turns off."""
    whole = mask.whole_layers
    parts = [
        ("whole layers", sorted(whole)),
        ("attention of layers", sorted(s.layer for s in mask.sites if s.part == "attention" and s.layer not in whole)),
        ("MLP of layers", sorted(s.layer for s in mask.sites if s.part == "mlp" and s.layer not in whole)),
    ]
    return "; ".join(f"{name} {', '.join(map(str, layers))}" for name, layers in parts if layers) or "nothing"


def make_card(
    loaded: LoadedModel, corpus: Corpus, mask: Mask, proof: Verification, before: Costs, after: Costs, command: str
) -> str:
    """Write the card, in Markdown with the hub's metadata in front."""
    score = proof.score
    base = score.unpruned
    zeroed = mask.sites - Mask.of_layers(mask.whole_layers).sites
    notes = [
        "Whole layers are removed: fewer parameters, less memory, less compute." if mask.whole_layers else "",
        "Sites that are off have their output projection set to zero: the function is that of the pruned model, "
        "but neither memory nor compute is saved for them."
        if zeroed
        else "",
    ]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "tags: [pruned]",
            *([f"base_model: {loaded.spec.model}"] if _looks_like_hub_id(loaded.spec.model) else []),
            "---",
            "",
            f"# {loaded.spec.model}, pruned",
            "",
            f"Mask `{mask}`: {describe_mask(mask)} removed. Layers count from 0.",
            *(note for note in notes if note),
            "",
            "| | before | after |",
            "|---|---|---|",
            f"| perplexity | {_with_interval(base.perplexity, base.perplexity_ci95)} | "
            f"{_with_interval(score.perplexity, score.perplexity_ci95)} |",
            f"| parameters | {before.parameters:,} | {after.parameters:,} |",
            f"| bytes of weights ({loaded.dtype}) | {before.bytes:,} | {after.bytes:,} |",
            f"| KV cache, bytes per token | {before.kv_bytes_per_token:,} | {after.kv_bytes_per_token:,} |",
            "",
            f"Perplexity on `{corpus.name}`, {score.n_tokens:,} held-out tokens, {corpus.protocol}, {loaded.dtype}; "
            "intervals are 95% over windows.",
            f"Weights: {loaded.checkpoint.dequantizes}.",
            "",
            "Reloaded after writing and compared with the masked model on those windows: largest logit difference "
            f"{proof.max_abs_logit_difference:.3g}, perplexity {proof.perplexity_reloaded:.4f} against "
            f"{proof.perplexity_masked:.4f}.",
            "",
            "Load it with `transformers.AutoModelForCausalLM.from_pretrained`. Made by",
            "",
            f"    {command}",
            "",
        ]
    )


def _looks_like_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _with_interval(value: float, interval: Interval | None) -> str:
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
