"""A model judged on a part of a dataset: what is not kept of its answers yet is asked for."""

from collections import deque
from collections.abc import Callable, Iterator

import jax
import numpy as np

from fgvc_jax.inference import passes
from fgvc_jax.inference.model import Model
from fgvc_jax.utils import devices, machine, processes
from fgvc_jax.workdir import predictions, storage, thumbnails
from fgvc_jax.workdir.predictions import Part
from fgvc_jax.workdir.thumbnails import Collector


def keep_answers(
    model: Model,
    part: Part,
    batches: Callable[[], Iterator[devices.Packed]],
    store: jax.Array | None,
    pictures: Callable[[], Iterator[devices.Packed]] | None = None,
) -> None:
    """Ask the members whose answers for a part are not kept yet, all in one pass, and keep them.

    Args:
        model: the members.
        part: where answers go.
        batches: starts a pass over the part's images.
        store: the images on the devices, where the batches have none.
        pictures: starts a pass over the images themselves, where `batches` has a frozen trunk's
            features in their place.
    """
    have = processes.of_first(np.array([part.has(identity) for identity in model.identities]))
    missing = [n for n, there in enumerate(have) if not there]
    if missing:
        collector, seen = _collector(model, part, store), batches()
        if collector and pictures:
            deque(collector.watch(pictures()), maxlen=0)
        elif collector:
            seen = collector.watch(seen)
        answers = model.answers(seen, store, missing)
        if jax.process_index() == 0:
            identities = [model.identities[n] for n in missing]
            with predictions.keep(part, identities, [model.grid(n) for n in missing]) as arrays:
                predictions.fill(answers, arrays)
            if collector:
                collector.write(thumbnails.path(part.folder))
        else:
            predictions.fill(answers, [])
    processes.wait_for_all("answers are kept")


def _collector(
    model: Model, part: Part, store: jax.Array | None
) -> Collector[devices.Packed] | None:
    """What makes thumbnails in a pass over test images that have none yet."""
    there = storage.exists(thumbnails.path(part.folder))
    if part.part != "test" or processes.of_first(np.array(there)):
        return None
    side = thumbnails.side(len(part.labels), model.view.test_side)
    shrink = passes.shrink_step(side=side, mesh=model.mesh)
    threads = machine.cores(processes.processes_here())
    return Collector(len(part.labels), lambda batch: shrink(batch, store), threads)
