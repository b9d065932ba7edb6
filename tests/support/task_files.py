"""Task files of every kind for lm-evaluation-harness, with a few items each."""

from __future__ import annotations

import json
from pathlib import Path

_CHOICES = """output_type: multiple_choice
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
_FILES = {
    "animals": _CHOICES
    + """  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
doc_to_text: "Question: {{query}}\\nAnswer:"
doc_to_target: gold
doc_to_choice: choices
""",
    "pronouns": _CHOICES + "doc_to_text: gold\ndoc_to_target: rest\ndoc_to_choice: choices\n",
    "last_words": """output_type: loglikelihood
doc_to_text: "{{query}}"
doc_to_target: " {{rest}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
""",
    "texts": """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{query}} {{rest}}"
metric_list:
  - {metric: word_perplexity}
""",
    "written": """output_type: generate_until
doc_to_text: "{{query}}"
doc_to_target: "{{rest}}"
generation_kwargs: {until: ["e", "zz"], max_gen_toks: 6}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
""",
}

_NOUNS = ("cat", "dog", "hen", "horse", "mouse", "otter", "owl", "seal", "toad", "wolf")


def write_tasks(folder: Path, items: int = 6) -> Path:
    """Write the task files, with so many items of each; `animals` has others to train by."""
    for name, text in _FILES.items():
        for split, first in (("train", 100), ("test", 0)):
            rows = [json.dumps(_make_item(number)) for number in range(first, first + items)]
            (folder / f"{name}-{split}.jsonl").write_text("\n".join(rows) + "\n")
        data = "\n".join(f"    {split}: {folder / name}-{split}.jsonl" for split in ("train", "test"))
        head = f"task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n{data}\ntest_split: test\n"
        trained = "training_split: train\n" if name == "animals" else ""
        (folder / f"{name}.yaml").write_text(head + trained + text)
    return folder


def _make_item(number: int) -> dict[str, object]:
    """One choice begins with another, and one is a single token."""
    one, other = _NOUNS[number % 10], _NOUNS[(3 * number + 1) % 10]
    return {
        "query": f"who of {number} met the {one}",
        "choices": [f"the {other}", f"the {other} and the {one}", "I", f"{one}s"],
        "rest": f"was there with the {other}",
        "gold": number % 4,
    }
