"""How well trained members tell photographs of other classes from those of their own."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from fgvc_jax.evaluation import intervals, novelty
from fgvc_jax.inference.embeddings import check_finite
from fgvc_jax.inference.model import Model
from fgvc_jax.inference.neighbours import NOVELTY
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions
from fgvc_jax.workdir.calibration import strangeness
from fgvc_jax.workdir.predictions import Part

RATE = 0.05  # of false alarms at which it is told how many are found


def told_apart(
    asked: Model, test: Part, batches: Iterable[devices.Packed], names: list[str]
) -> dict[str, Any]:
    """How images of no known class are told from the run's test images.

    Args:
        asked: the members.
        test: the test images, for which it is kept how strange they are.
        batches: a pass over the others.
        names: theirs.

    Returns:
        "images": {"known", "unknown"}; "scores": {score: see `novelty.separation`}; "score": that
        which `predict` takes; "at": what it comes to at `RATE`, {"rate", "found": the share of the
        others that is called unknown, "alarms": that of the test images}, None where nothing was
        kept to find a threshold by; "about": in words.

    Raises:
        UserError: where it is not kept how strange the test images are.
    """
    if not all(test.has_novelty(member) for member in asked.identities):
        workdir = test.folder.parents[1]
        raise UserError(
            f"workdir {str(workdir)!r} does not keep how strange its test images are: as long as "
            f"the dataset is where it was, {predictions.way_out(workdir)}"
        )
    known, others = strangeness(test, asked.identities), _strangeness(asked, batches, names)
    found: dict[str, Any] = {
        "images": {"known": len(known), "unknown": len(others)},
        "scores": {
            name: novelty.separation(known[:, column], others[:, column])
            for column, name in enumerate(novelty.SCORES)
        },
    }
    try:
        fitted = asked.novelty
    except UserError as error:
        return found | {"score": novelty.FIXED, "at": None, "about": str(error)}
    alarms, caught = (fitted.typicality(each[:, fitted.column]) <= RATE for each in (known, others))
    at = {"rate": RATE, "found": _share(caught), "alarms": _share(alarms)}
    if fitted.least_rate > RATE:
        return found | {"score": fitted.score, "at": None, "about": fitted.about}
    return found | {"score": fitted.score, "at": at, "about": fitted.about}


def _share(values: np.ndarray) -> dict[str, float]:
    low, high = intervals.proportion(values.sum(), len(values))
    return {"value": float(values.mean()), "low": low, "high": high}


def _strangeness(asked: Model, batches: Iterable[devices.Packed], names: list[str]) -> np.ndarray:
    """(N, 3), how strange images are by every score, on average over the members."""
    found = np.zeros((len(asked.members), len(names), len(novelty.SCORES)), np.float32)
    for batch in predictions.one_behind(asked.answers(batches, None)):
        wanted = [{name: each[name] for name in ("row", "mask", *NOVELTY)} for each in batch]
        for number, each in enumerate(jax.device_get(wanted)):
            mask = each["mask"]
            rows = each["row"][mask]
            seen = {name: each[name][mask] for name in NOVELTY}
            check_finite([seen["embedding"]], [names[row] for row in rows], [asked.numbers[number]])
            found[number, rows] = asked.alone[number].novelty(seen)
    return found.mean(0)
