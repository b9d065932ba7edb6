"""Abilities along a plan: those of each step, the coarse shape first, and nothing twice."""

from __future__ import annotations

from explorer.benchmarks.evaluate import Asking, evaluate
from explorer.evaluation.perplexity import score
from explorer.model.loading import LoadedModel
from explorer.plans.abilities import Abilities, trace_abilities
from explorer.plans.plan import Plan, PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus

TASKS, ASKING = ["probe:copying", "probe:sorting"], Asking(limit=5)


def test_every_step_has_its_answers(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    told: list[Plan | Abilities] = []
    found = trace_abilities(llama, llama_corpus, PlanSpec("deepest"), TASKS, ASKING, store, listener=told.append)
    plan = found.curve.plan
    assert found.steps == list(range(len(plan.masks)))
    known = [each for each in told if isinstance(each, Abilities)]
    assert set(known[0].steps) >= {0, len(plan.masks) - 1}
    assert [len(each.steps) for each in known] == sorted(len(each.steps) for each in known)
    for step, mask in enumerate(plan.masks):
        assert found.curve.scores[step].nll.tolist() == score(llama, llama_corpus, [mask], Store(None))[0].nll.tolist()
        alone = evaluate(llama, llama_corpus, [mask], Store(None), TASKS, ASKING)
        for one, other in zip(found.evaluations, alone, strict=True):
            assert one.answers[found.find(one, step)] == other.answers[-1]
    with llama.wrappers.counting() as count:
        again = trace_abilities(llama, llama_corpus, plan, TASKS, ASKING, store)
        assert count.evaluations == 0
    assert [each.answers for each in again.evaluations] == [each.answers for each in found.evaluations]
