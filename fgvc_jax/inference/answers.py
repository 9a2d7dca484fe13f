"""What is not kept yet of a model is asked for: its answers for a part of a dataset, and what it
sees of training photographs."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from fgvc_jax.evaluation.error_analysis import Predictions
from fgvc_jax.evaluation.tallies import Fused
from fgvc_jax.inference import passes
from fgvc_jax.inference.embeddings import check_finite, concatenated
from fgvc_jax.inference.model import Model
from fgvc_jax.inference.neighbours import NOVELTY, Neighbours
from fgvc_jax.utils import devices, machine, processes, progress
from fgvc_jax.utils.progress import Reporter
from fgvc_jax.workdir import predictions, remembered, storage, thumbnails
from fgvc_jax.workdir.predictions import Part
from fgvc_jax.workdir.remembered import Nearest
from fgvc_jax.workdir.thumbnails import Collector


def keep_answers(
    model: Model,
    part: Part,
    batches: Callable[[], Iterator[devices.Packed]],
    store: jax.Array | None,
    pictures: Callable[[], Iterator[devices.Packed]] | None = None,
    photographs: Part | None = None,
) -> None:
    """Ask the members whose answers for a part are not kept yet, all in one pass, and keep them.

    Args:
        model: the members.
        part: where answers go.
        batches: starts a pass over the part's images.
        store: the images on the devices, where the batches have none.
        pictures: starts a pass over the images themselves, where `batches` has a frozen trunk's
            features in their place.
        photographs: the training photographs that are kept, so that it is kept, too, how strange
            images are. None where there are none.
    """
    novel = photographs is not None

    def has(member: str) -> bool:
        return part.has(member) and (part.has_novelty(member) or not novel)

    have = processes.of_first(np.array([has(identity) for identity in model.identities]))
    missing = [n for n, there in enumerate(have) if not there]
    if missing:
        collector, seen = None, batches()
        if part.part == "test":
            collector = pictures_of(model, part, store)
        if collector and pictures:
            deque(collector.watch(pictures()), maxlen=0)
        elif collector:
            seen = collector.watch(seen)
        answers = _watched(model.answers(seen, store, missing), part)
        if jax.process_index() == 0:
            identities = [model.identities[n] for n in missing]
            if photographs:
                answers = _novelty_told(model, part, answers, missing, photographs)
            grids = [model.grid(n) for n in missing]
            answered = {each for each in identities if part.has(each)}
            with predictions.keep(
                part, identities, grids, novel=novel, answered=answered
            ) as arrays:
                predictions.fill(answers, arrays)
            if collector:
                collector.write(thumbnails.path(part.folder))
        else:
            predictions.fill(answers, [])
    processes.wait_for_all("answers are kept")


def _novelty_told(
    model: Model,
    part: Part,
    answers: Iterable[list[dict[str, Any]]],
    members: Sequence[int],
    photographs: Part,
) -> Iterator[list[dict[str, Any]]]:
    """Answers of members for a part, each with its "novelty": (B, 3) float32."""
    known = [Neighbours.of(photographs, [model.identities[n]]) for n in members]
    for batch in predictions.one_behind(answers):
        wanted = [{name: each[name] for name in ("row", *NOVELTY)} for each in batch]
        seen = jax.device_get(wanted)
        names = [part.names[row] for row in seen[0]["row"]]
        numbers = [model.numbers[n] for n in members]
        check_finite([each["embedding"] for each in seen], names, numbers)
        yield [
            each | {"novelty": near.novelty(found)}
            for each, found, near in zip(batch, seen, known, strict=True)
        ]


def _watched(
    answers: Iterable[list[dict[str, jax.Array]]], part: Part
) -> Iterator[list[dict[str, jax.Array]]]:
    """The same, with a bar on a terminal."""
    what = f"{part.part} images answered"
    with progress.bar(total=len(part.labels), desc=what, unit=" images", leave=False) as shown:
        for batch in answers:
            yield batch
            shown.update(min(batch[0]["mask"].shape[0], shown.total - shown.n))


def pictures_of(
    model: Model, part: Part, store: jax.Array | None, budget: int = thumbnails.BUDGET
) -> Collector[devices.Packed] | None:
    """What makes thumbnails in a pass over images that have none yet, in so many bytes."""
    count = len(part.labels)
    if processes.of_first(np.array(storage.exists(thumbnails.path(part.folder)))):
        return None
    side = thumbnails.side(count, model.view.test_side, budget)
    shrink = passes.shrink_pass(side=side, mesh=model.mesh)
    threads = machine.cores(processes.processes_here())
    return Collector(count, lambda batch: shrink(batch, store), threads, budget)


# -- training photographs --------------------------------------------------------------------------

# Rows of images -> a pass over these, and the images on the devices where its batches have none.
Begin = Callable[[np.ndarray], tuple[Iterator[devices.Packed], jax.Array | None]]


def keep_photographs(
    model: Model,
    part: Part,
    rows: np.ndarray,
    training: Begin,
    report: Reporter,
    known: np.ndarray | None = None,
) -> None:
    """Keep some training photographs, small, with what the members see of them: what is not kept
    yet.

    Args:
        model: the members.
        part: the photographs, see `remembered.part_of`.
        rows: theirs among the training images.
        training: begins a pass over some training images.
        report: prints a line for people.
        known: (M, D) what the only member sees of the photographs, where that is known.
    """
    began = time.perf_counter()
    if jax.process_index() == 0:
        remembered.forget_others(part)
    have = processes.of_first(np.array([remembered.has(part, each) for each in model.identities]))
    missing = [n for n, there in enumerate(have) if not there]
    there = processes.of_first(np.array(storage.exists(thumbnails.path(part.folder))))
    if missing or not there:
        passed, store = training(rows)
        collector = pictures_of(model, part, store, remembered.PICTURES)
        passed = progress.over_batches(passed, "training photographs", len(rows))
        passed = collector.watch(passed) if collector else passed
        if known is None:
            seen = _seen(model, passed, store, missing, part.names)
        else:
            deque(passed, maxlen=0)
            seen = [known] if missing else []
        if jax.process_index() == 0:
            identities = [model.identities[n] for n in missing]
            with remembered.keep(part, identities, [each.shape[1] for each in seen]) as arrays:
                for array, vectors in zip(arrays, seen, strict=True):
                    array[:] = concatenated([vectors], normalize=True)
            if collector:
                collector.write(thumbnails.path(part.folder))
        report(
            f"{len(rows):,} training photographs are kept with what the members see of them, so "
            f"that the nearest can be shown: {time.perf_counter() - began:.1f} s"
        )
    processes.wait_for_all("training photographs are kept")


def keep_nearest(model: Model, part: Part, test: Part, testing: Begin) -> None:
    """Keep which training photographs are nearest to the test images named most wrongly, unless
    that is kept.

    Args:
        model: the members.
        part: the photographs.
        test: the test images, for which all members' answers are kept.
        testing: begins a pass over some of them.
    """
    kept, missing = nearest_missing(model, part, test)
    if not len(missing):
        return
    found = dict(kept.found) if kept else {}
    names, everyone = [test.names[i] for i in missing], range(len(model.identities))
    seen = _seen(model, *testing(missing), everyone, names)
    known = Neighbours.of(part, model.identities)
    rows, values = known.nearest(concatenated(seen, normalize=True), remembered.NEAREST)
    for image, *each in zip(missing.tolist(), rows.tolist(), values.tolist(), strict=True):
        found[image] = list(zip(*each, strict=True))
    if jax.process_index() == 0:
        Nearest(tuple(model.identities), test.images, found).write(part)


def nearest_missing(model: Model, part: Part, test: Part) -> tuple[Nearest | None, np.ndarray]:
    """(what is kept of these members, in the first process; the test images named most wrongly of
    which nothing is, by their rows). Those of another fusion may be other images: what was found of
    these stays."""
    errors = Predictions.of(Fused(test, model.identities, model.fusion)).errors()[
        : remembered.ERRORS
    ]
    kept = Nearest.read(part, model.identities) if jax.process_index() == 0 else None
    kept = kept if kept and kept.is_of(model.identities, test) else None
    new = np.array([kept is None or image not in kept.found for image in errors], bool)
    return kept, errors[processes.of_first(new)]


def _seen(
    model: Model,
    batches: Iterable[devices.Packed],
    store: jax.Array | None,
    members: Sequence[int],
    names: Sequence[str],
) -> list[np.ndarray]:
    """(N, D) float32 of each member in a pass over images of such names: by the program that judges
    them, so that no other is compiled."""
    widths = model.widths()
    found = [np.zeros((len(names), widths[n]), np.float32) for n in members]
    for answer in model.answers(batches, store, members):
        wanted = [{name: each[name] for name in ("row", "mask", "embedding")} for each in answer]
        for vectors, each in zip(found, jax.device_get(wanted), strict=True):
            vectors[each["row"][each["mask"]]] = each["embedding"][each["mask"]]
    check_finite(found, names, [model.numbers[n] for n in members])
    return found
