"""LoadedModel, Corpus, Mask, [ModifierSpec] -> Variant: each delta made over those before it, or found in the cache."""

from __future__ import annotations

from collections.abc import Sequence

from explorer.deltas import ModifierSpec, Variant
from explorer.errors import ModifyError
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.modifiers.catalogue import find_modifier
from explorer.modifiers.delta_maker import DeltaMaker
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus


def modify(
    loaded: LoadedModel,
    corpus: Corpus,
    variant: Mask | Variant,
    specs: Sequence[ModifierSpec | str],
    store: Store,
    progress: Progress = unreported,
) -> Variant:
    """Change a model, or make up for what is off in it: each modifier over those before it.

    Only the calibration windows are looked at. What was made of the same model, windows, mask and modifiers is taken
    from the store.

    Args:
        loaded: the model.
        corpus: whose calibration windows are fitted to.
        variant: what is off, and changed already.
        specs: what to make, in order, such as `refit` or `linear;rank=64`.
        store: where deltas are kept.
        progress: told the layers.

    Raises:
        MaskError: the mask names a layer that the model lacks.
        ModifyError: nothing is off where something has to be, or a modifier is unknown, lacks an option, or does not
            apply.
        DeviceError: out of memory with a single window.
        Cancelled: `progress` raised it.
    """
    read = [ModifierSpec.parse(spec) if isinstance(spec, str) else spec for spec in specs]
    (made,) = modify_each(loaded, corpus, variant, [read], store, progress)
    return made


def modify_each(
    loaded: LoadedModel,
    corpus: Corpus,
    variant: Mask | Variant,
    chains: Sequence[Sequence[ModifierSpec]],
    store: Store,
    progress: Progress = unreported,
) -> list[Variant]:
    """Make several variants of one, see `modify`; the unpruned model is run once for all of them."""
    variant = Variant(variant.checked(loaded.n_layers).mask, variant.deltas)
    for spec in (spec for chain in chains for spec in chain):
        if find_modifier(spec).needs_mask and not variant.mask:
            found = f"{spec} is asked for, and nothing is off"
            raise ModifyError("There is nothing to make up for", found, "Turn a layer, attention or MLP off")
        check_modifiable(loaded, spec)

    def work(rows: int) -> list[Variant]:
        maker = DeltaMaker(loaded, corpus, store, progress, rows)
        return [maker.make(variant, chain) for chain in chains]

    return loaded.batch_shape.run(work, corpus.window)


def find_begun(
    loaded: LoadedModel, corpus: Corpus, variant: Mask | Variant, specs: Sequence[ModifierSpec], store: Store
) -> Variant:
    """Return what is made so far of a variant that `modify` makes or was stopped at; see there. Nothing is made.

    Deltas that are whole, and of the first that is not what its finished steps made.
    """
    start = Variant(variant.checked(loaded.n_layers).mask, variant.deltas)

    def work(rows: int) -> Variant:
        return DeltaMaker(loaded, corpus, store, unreported, rows).find_begun(start, specs)

    return loaded.batch_shape.run(work, corpus.window)


def repeat_layer(
    loaded: LoadedModel,
    corpus: Corpus,
    variant: Variant,
    layer: int | None,
    store: Store,
    progress: Progress = unreported,
) -> None:
    """Make a layer of a variant's last delta once more, for whoever watches; what is made is let go.

    Args:
        loaded: the model.
        corpus: whose calibration windows it was fitted to.
        variant: its last delta was made layer by layer.
        layer: which layer; None to have all of them taken as they were made.
        store: where what takes long is kept on its way.
        progress: told the layers.

    Raises ModifyError, Cancelled: see `modify`.
    """

    def work(rows: int) -> None:
        DeltaMaker(loaded, corpus, store, progress, rows).repeat(variant, layer)

    loaded.batch_shape.run(work, corpus.window)


def check_modifiable(loaded: LoadedModel, spec: ModifierSpec) -> None:
    """Raise ModifyError if a modifier changes weights that cannot be changed: quantized, or not in memory."""
    modifier = find_modifier(spec)
    if modifier.makes != "weights" or (modifier.beside and loaded.spec.quantize == "nf4"):
        return
    if loaded.spec.quantize != "none" or "quantization_config" in loaded.checkpoint.config:
        raise ModifyError(
            f"{spec.name} changes weights", "those of this model are quantized",
            "Load it with --quantize none, or use linear or mean",
        )  # fmt: skip
    if any(parameter.is_meta for layer in loaded.wrappers.layers for parameter in layer.parameters()):
        raise ModifyError(f"{spec.name} changes weights", "not all are in memory", "Use a device with more memory")
