"""What do the members of an ensemble attend to? Measured on drawn birds, whose parts are known.

    python scripts/attention.py scripts/studies/kt_attention.py

takes a study as scripts/study.py does, trains what is missing, and adds to its table, for each run
and in percent:

    parts_any       the share of species-defining parts that at least one member attends to
    parts_single    the same share for one member alone, the mean over members
    ..._chance      the same with the members' maps taken from other images
    ..._strong      the same with a higher threshold

All on the test images, as evaluation sees them. A part defines a species when it tells it from one
of its nearest relatives (`sketchbirds.defining_parts`); only those count that show at least
MIN_PIXELS pixels in an image, and images without any are left out. A member attends to a part when
its attention map (KT, eq. 1-2: zero mean and unit deviation per image), enlarged bilinearly to the
image, is on average over the part's visible pixels above 0, its mean over the image (..._strong:
above 1, one deviation). The share is taken per image, then averaged over images. The bill's shape
and colour are two parts in one place.

Chance keeps the maps of all members together and pairs them with the parts of another image, the
mean over SHIFTS such pairings: what is left is that birds are in the middle. The more members and
the larger the areas they attend to, the higher "any" is by chance, so compare rows of equally many
members, and with their chance.
"""

from fgvc_jax.commands import start

if __name__ == "__main__":
    start.prepare()

from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fgvc_jax.config import Data, Experiment
from fgvc_jax.data import regions
from fgvc_jax.data.records import origin
from fgvc_jax.data.sketchbirds import PARTS, defining_parts
from fgvc_jax.data.sources import open_source, restrict
from fgvc_jax.study import definition, runner
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions
from fgvc_jax.workdir.folder import Workdir

THRESHOLDS = {"": 0.0, "_strong": 1.0}
MIN_PIXELS = 4
SHIFTS = 8
METRICS = tuple(
    f"parts_{share}{chance}{strong}"
    for strong in THRESHOLDS
    for share in ("any", "single")
    for chance in ("", "_chance")
)


def main(arguments: list[str]) -> None:
    chosen, options = definition.parse(arguments, "python scripts/attention.py FILE")
    if chosen.base.data.source != "sketchbirds":
        raise UserError("only sketchbirds knows the parts of its birds: take it as the data.source")
    metrics = (*options.metrics, *METRICS)
    runner.carry_out(chosen, replace(options, metrics=metrics), measure=measure, measured=METRICS)


def measure(experiment: Experiment, _results: dict[str, Any]) -> dict[str, float]:
    """METRICS of a finished run."""
    masks, wanted = defining_masks(experiment.data)
    maps = attention_maps(experiment)
    return part_shares(maps, masks, wanted)


# -- parts ---------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def defining_masks(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Where the parts are in the test view, and which of them count.

    Returns:
        masks (B, P, S, S) float32 in [0, 1], wanted (B, P) bool: visible and species-defining.
    """
    splits = restrict(
        open_source(data.source), classes=data.classes, images_per_class=0, validation=0.0, seed=0
    )
    views = []
    for i in range(len(splits.test)):
        birds, index = origin(splits.test, i)
        parts = birds.masks(index)
        views.append(np.stack([regions.seen(parts[name], data) for name in PARTS]))
    masks = np.stack(views)
    defining = defining_parts(birds.codes[: len(splits.classes)])
    visible = masks.sum(axis=(2, 3)) >= MIN_PIXELS
    return masks, visible & defining[splits.test.labels]


# -- attention -----------------------------------------------------------------------------------


def attention_maps(experiment: Experiment) -> np.ndarray:
    """Kept maps Z of all members on the test set, enlarged: (N, B, S, S) float32."""
    workdir = Workdir(experiment.workdir)
    results = workdir.read_results()
    part = predictions.read(workdir.predictions / results["predictions"]["test"])
    side = experiment.data.crop
    maps = [part.attention(member).astype(np.float32) for member in results["digests"]["members"]]
    return np.stack([jax.image.resize(z, (len(z), side, side), "linear") for z in maps])


def part_shares(maps: np.ndarray, masks: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """METRICS of one run.

    Args:
        maps: (N, B, S, S) standardized attention of N members.
        masks: (B, P, S, S) in [0, 1].
        wanted: (B, P) bool, the parts that count in an image.
    """
    here = [_mean_on_parts(maps, masks)]
    elsewhere = [
        _mean_on_parts(np.roll(maps, shift, axis=1), masks) for shift in range(1, SHIFTS + 1)
    ]
    values = {}
    for chance, pairings in (("", here), ("_chance", elsewhere)):
        for strong, threshold in THRESHOLDS.items():
            attended = [means > threshold for means in pairings]
            values["parts_any" + chance + strong] = float(
                np.mean([_share(a.any(axis=0), wanted) for a in attended])
            )
            values["parts_single" + chance + strong] = float(
                np.mean([_share(one, wanted) for a in attended for one in a])
            )
    return values


def _mean_on_parts(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean of each map over each part: (N, B, S, S), (B, P, S, S) -> (N, B, P)."""
    total = jnp.einsum("nbhw,bphw->nbp", maps, masks)
    return np.asarray(total) / np.maximum(masks.sum(axis=(2, 3)), 1e-6)


def _share(attended: np.ndarray, wanted: np.ndarray) -> float:
    """Mean over images of the share of wanted parts that are attended: (B, P), (B, P)."""
    counts = wanted.sum(axis=1)
    return float(((attended & wanted).sum(axis=1)[counts > 0] / counts[counts > 0]).mean())


if __name__ == "__main__":
    start.run(main)
