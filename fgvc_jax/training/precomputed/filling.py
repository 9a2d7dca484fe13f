"""Passes in which outputs of frozen networks are computed for all images of a part, and stored."""

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Mapping

import jax
from jax.sharding import Mesh

from fgvc_jax.data import feed
from fgvc_jax.data.feed import Images
from fgvc_jax.data.pipeline import Lookup
from fgvc_jax.training.precomputed.requests import Request, Stores
from fgvc_jax.training.precomputed.store import check_can_store
from fgvc_jax.utils import devices, processes, progress
from fgvc_jax.utils.devices import Packed
from fgvc_jax.utils.progress import Reporter


class Filling:
    """What fills stores.

    Args:
        stores: where outputs are kept.
        seen: (part, names of outputs) -> its images with those of them that are stored.
        complete: (batch, names of outputs) -> the batch with all of them.
        mesh: devices.
    """

    def __init__(
        self,
        stores: Stores,
        seen: Callable[[str, Collection[str]], Images],
        complete: Callable[[Packed, Collection[str]], Packed],
        mesh: Mesh,
    ):
        self._stores = stores
        self._seen = seen
        self._complete = complete
        self._mesh = mesh
        self._gathered = jax.jit(_rows_of, out_shardings=devices.replicated(mesh))

    def fill(self, request: Request, lookups: dict[str, Lookup], report: Reporter) -> None:
        """Make what is missing of a request; each of its outputs is in `lookups` from then on.

        Raises:
            UserError: when nothing can be written.
        """
        what, views, began = request.frozen.what, 0, time.perf_counter()
        for name, store in request.stores.items():
            for view in store.missing(request.views):
                if jax.process_index() == 0:
                    check_can_store(what, store.folder)
                made = self._computed(request, name, view)
                shown = progress.over_batches(made, what, request.count)
                store.make(view, shown, write=jax.process_index() == 0)
                views += 1
            lookups[name] = store.rows
        if views:
            processes.wait_for_all(f"{what} are written")
            count, seconds = views * request.count, time.perf_counter() - began
            report(f"{count:,} of them in {seconds:.1f} s ({count / seconds:.0f} images/s)")

    def _computed(self, request: Request, name: str, view: int) -> Iterator[dict[str, jax.Array]]:
        """An output for all images of a part, batch by batch, as `Store.make` takes it."""
        part, output = request.part, request.outputs[name]
        images, compute = self._seen(part, output.needs), output.compute
        for earlier, go_on in output.earlier or ():
            store = self._stores.open(request.frozen, part, earlier, request.count)
            if not store.missing([view]):
                compute, lookups = go_on, {**images.lookups, name: store.rows}
                images = dataclasses.replace(images, lookups=lookups)
                break

        def computed(batch):
            batch = self._complete(batch, output.needs)
            return self._gathered(batch, compute(batch, images.store))

        shown = feed.batches if output.as_in_step else feed.evaluation_batches
        size = self._stores.batch_size(output)
        return feed.ahead(shown(images, size, self._mesh, view=view), computed, depth=1)


def _rows_of(
    batch: Packed, output: Mapping[str, jax.Array]
) -> dict[str, jax.Array | Mapping[str, jax.Array]]:
    return {"row": batch["row"], "mask": batch["mask"], "output": output}
