"""The one model in memory, and the texts that were cut for it. Only the worker's thread touches it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

from explorer.checkpoints import ModelSpec
from explorer.evaluation import HiddenStateCache
from explorer.execution.file_stamps import Stamp, stamp
from explorer.model import LoadedModel, check_text, free_bytes, inspect_checkpoint, load
from explorer.progress import Progress
from explorer.storage import Store
from explorer.text import Corpus

#: States kept between live scores take an eighth of the free memory, and no more than this.
MOST_PREFIX_BYTES = {"cpu": 2**30, "cuda": 2**36}

_MOST_CORPORA = 8

_Cut = tuple[str, int, int, tuple[tuple[str, float], ...], int, str, tuple[Stamp, ...]]


class Resident:
    """Loads what is asked for; what is there stays until something else could take its place.

    Args:
        store: where digests are kept.
        cache: where converted models are.
    """

    def __init__(self, store: Store, cache: Path) -> None:
        self.store, self.cache = store, cache
        self.loaded: LoadedModel | None = None
        self.state_cache = HiddenStateCache(0)
        self._stamp: Stamp = ()
        self._corpora: OrderedDict[_Cut, Corpus] = OrderedDict()

    def has(self, spec: ModelSpec) -> bool:
        """Tell whether this very model is in memory."""
        return self.loaded is not None and self.loaded.spec == spec and self._stamp == stamp(spec.model)

    @property
    def held_bytes(self) -> int:
        """Bytes of the weights in memory."""
        return 0 if self.loaded is None else sum(each.nbytes for each in self.loaded.model.parameters())

    def load(self, spec: ModelSpec, texts: Iterable[str], progress: Progress) -> LoadedModel:
        """Return the model. One that is in memory is let go for it only when model and texts were found.

        Raises ModelError, TextError, UnsupportedModel, DeviceError: see `loading.load`.
        """
        for text in texts:
            check_text(text)
        if self.loaded is None or not self.has(spec):
            found = stamp(spec.model)
            checkpoint = inspect_checkpoint(spec, self.store, self.cache, progress)
            self._unload()
            self.loaded, self._stamp = load(spec, self.store, self.cache, progress, checkpoint), found
            device = self.loaded.device
            most = MOST_PREFIX_BYTES.get(device.type, MOST_PREFIX_BYTES["cpu"])
            self.state_cache = HiddenStateCache(min(most, free_bytes(device) // 8))
        return self.loaded

    def _unload(self) -> None:
        loaded, self.loaded = self.loaded, None
        self._corpora.clear()
        self.state_cache = HiddenStateCache(0)
        if loaded is not None:
            loaded.unload()

    def cut(
        self,
        loaded: LoadedModel,
        text: str,
        tokens: int,
        window: int,
        calibration: Mapping[str, float] = {},
        calibration_tokens: int = 0,
        bos: str = "auto",
    ) -> Corpus:
        """Return a text's windows, with calibration windows of others by weight if any are named; the last are kept.

        Raises TextError: see `text.tokenize`.
        """
        files = tuple(map(stamp, (text, *calibration)))
        key = text, tokens, window, tuple(calibration.items()), calibration_tokens, bos, files
        if key not in self._corpora:
            self._corpora[key] = loaded.tokenize(text, tokens, window, bos, calibration, calibration_tokens)
            while len(self._corpora) > _MOST_CORPORA:
                self._corpora.popitem(last=False)
        return self._corpora[key]
