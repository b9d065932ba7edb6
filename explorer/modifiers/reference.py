"""The residual stream of the unpruned model where fits want it: before attention and MLPs."""

from __future__ import annotations

from explorer.masks import Site
from explorer.model import LayerwisePass, States
from explorer.progress import Progress, unreported

_FIRST = Site(0, "attention")


class Reference:
    """The states of the unpruned model before some sites, each from the nearest that is kept.

    Nothing is run before it is asked for. Holds the states of each boundary of layers that was asked for to be kept,
    and one more; see `States` for where.

    Args:
        run: of the calibration windows.
        progress: told the layers.
    """

    def __init__(self, run: LayerwisePass, progress: Progress = unreported) -> None:
        self.run, self.progress = run, progress
        self._kept: dict[Site, States] = {}

    def before(self, site: Site, keep: bool = True) -> States:
        """Return the stream before a site; before the attention of layer L it is what leaves the last layer.

        Args:
            site: the site.
            keep: it will be asked for again; if not, it is gone when the next is asked for.
        """
        if not self._kept:
            self._last = _FIRST, self.run.embed()
            self._kept[_FIRST] = self._last[1]
        if site not in self._kept:
            states = self._reach(site.layer) if site.part == "attention" else self._enter(site.layer)
            if not keep:
                return states
            self._kept[site] = states
        return self._kept[site]

    def _reach(self, layer: int) -> States:
        """Run on to the input of a layer."""
        kept = [(site, states) for site, states in self._kept.items() if site.part == "attention"]
        near = [(site, states) for site, states in (*kept, self._last) if site.layer <= layer]
        site, states = max(near, key=lambda each: each[0].layer)
        for passed in range(site.layer, layer):
            self.progress(passed, layer, "The unpruned model, layer by layer")
            own = all(states is not each for each in self._kept.values())
            states = self.run.run(passed, states, into=states if own else None)
        self._last = Site(layer, "attention"), states
        return states

    def _enter(self, layer: int) -> States:
        """Return the stream between attention and MLP of a layer."""
        before = self.before(Site(layer, "attention"))
        between = before.like()
        for seen in self.run.look(layer, before, updates=True):
            between[seen.rows] = seen.before + seen.updates["attention"]
        return between


def next_site(site: Site) -> Site:
    """Return the site after one in the order of the stream."""
    return Site(site.layer, "mlp") if site.part == "attention" else Site(site.layer + 1, "attention")
