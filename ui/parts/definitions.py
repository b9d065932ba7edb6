"""What a word means, in a few words, for the page that shows it. Imports no Streamlit."""

from __future__ import annotations

#: What can be removed at once, as pages call it.
UNIT_NAMES = {"layer": "Layers", "attention": "Attention", "mlp": "MLPs", "site": "Attention and MLPs"}

#: Words of the glossary.
DEFINITIONS = {
    "perplexity": "exp of the mean loss of a predicted token; 1 is certainty",
    "window": "a run of token ids that goes through the model by itself",
    "calibration": "the windows on which measures and plans decide",
    "held-out": "the windows on which the outcome is judged; they decide nothing",
    "nat": "the unit of loss, minus the natural logarithm of the probability of the token that came; about 1.44 bits",
    "bits per byte": "loss in bits over the bytes of the predicted text; it compares models with different tokenizers",
    "interval": "where a number lies with 95% confidence over windows",
    "residual stream": "the sum that the embedding begins and every attention and MLP adds to",
    "update": "what an attention or MLP adds to the residual stream",
    "site": "the attention or the MLP of one layer",
    "recovered": "pruned, and with the loss that a modifier won back",
    "modifier": "a way to make up for what is off, fitted or trained on calibration windows",
    "healing": "training after the cut",
    "adapter": "a pair of narrow matrices whose product is added to a weight",
    "sparsity": "share of a matrix's entries that are zero",
    "pattern": "N:M keeps N of every M neighbours in a row",
    "allocation": "how the share of zeros differs from layer to layer",
    "stale": "made for another mask than the one that is set",
    "mask": "what is off: 12-15 are layers, a20 is the attention of layer 20, m3 the MLP of layer 3",
    "angular distance": "arccos of the cosine between the inputs of layers l and l+n, over π",
    "block influence": "1 − cosine of the residual stream before and after",
    "leave-one-out": "the loss without one layer, attention or MLP, everything else on",
    "Taylor": "a first-order guess of the loss without it, the sum of |W dL/dW| over its weights",
    "magnitude": "sum of |W| over its weights",
    "coalition": "mean loss over random sets without it, minus that over sets with it",
    "Shapley value": "the loss that its removal adds, averaged over random orders of removal",
    "entropy increase": "entropy of the hidden states after it minus that before",
    "replaceability": "share of an update that a linear map of its input explains",
    "rank stability": "share of resampled texts on which a layer is among the k most redundant",
    "interaction": "what two removals cost together beyond the sum of their costs",
    "KL": "Kullback-Leibler divergence of the next-token distribution from the unpruned model's, in nats a token",
    "logit L2": "length of the difference between the two models' logits at a token, averaged over tokens",
    "top-1 agreement": "share of tokens for which both models find the same next token most likely",
    "task": "questions with right answers and how they are put, by the name that lm-evaluation-harness has for it",
    "probe": "questions of one kind made from a seed, with no data set",
    "item": "one question of a task",
    "accuracy (`acc`)": "share of items whose right answer is the likeliest choice",
    "chance": "the accuracy of guessing",
    "flips": "share of items whose answer is another, right or wrong",
    "expected acceptance": "share of tokens that the unpruned model would take if the other drafted them",
    "budget": "how much has to go, at which a plan ends",
    "criterion": "what a search lowers",
    "collapse": "the first step from which on perplexity stays above twice the unpruned model's",
    "decode speed": "tokens that the model writes in a second, one text at a time",
    "KV cache bytes": "what the keys and values of one token take, over all attentions that are on",
    "FLOPs per token": "multiplications and additions for one more token",
    "dropped, zeroed": "left out of the files, or there with an output of zero where the format cannot do without",
}


def define(*words: str) -> str:
    """Return what words of the glossary mean, a sentence each."""
    return " ".join(f"{word[0].upper()}{word[1:]}: {DEFINITIONS[word]}." for word in words)
