"""How often do the intervals of studies cover the truth? Simulated, where the truth is known.

    python scripts/coverage.py --seeds 8 --images 300 --repetitions 4000

draws ensembles of two on images of random difficulty: the first member is the same in both rows, as
in studies, the second has another gain on every image. Printed is the share of repetitions in which
each interval covers the true difference on these images, for new trainings, and on new images.

The interval that decides (`statistics.paired`) is asked the first question and should cover 95 % of
it; of the second it covers less, the fewer images there are. `statistics.crossed` is asked the
second; of the first it covers more.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from fgvc_jax.commands import start
from fgvc_jax.evaluation.statistics import crossed, paired
from fgvc_jax.utils import command_line
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import markdown_table


@dataclass(frozen=True)
class Simulation:
    """Simulate how often intervals cover the truth."""

    seeds: int = 8
    """Trainings of each row."""
    images: int = 300
    """Test images."""
    repetitions: int = 4000
    """Simulated studies."""
    gain: float = 0.1
    """Mean gain of the second row's ensemble, in units of its score."""
    seed: int = 0
    """Of the simulation."""


# Scores: an image is had right where the sum of its easiness and all else is above 0. Deviations
# such that single networks have 68 % right, and agree on as many images as trained ones do.
EASINESS, EASINESS_SD = 0.8, 1.6
GAIN_SD = 0.3  # between images: what a method helps with
TRAINING_SD = 0.05  # between trainings, alike for all images
NOISE_SD = 0.7  # of one training on one image


def main(arguments: list[str]) -> None:
    options = command_line.command_line(
        Simulation, arguments, program="python scripts/coverage.py", default=Simulation()
    )
    if min(options.seeds, options.images) < 2 or options.repetitions < 1:
        raise UserError("--seeds and --images must be at least 2, --repetitions at least 1")
    found = coverage(options)
    rows = [[name, *(f"{100 * share:.1f}" for share in shares)] for name, shares in found.items()]
    print(f"{options}\nTruths covered, in percent of the repetitions:\n")
    print(markdown_table(("interval", "on these images", "on new images"), rows))


def coverage(options: Simulation) -> dict[str, tuple[float, float]]:
    """{"paired", "crossed"}: the shares that cover the truth on these images and on new ones."""
    random = np.random.default_rng(options.seed)
    noise = np.sqrt((TRAINING_SD**2 + NOISE_SD**2) / 2)  # of the mean of two members
    covered = np.zeros((2, 2))
    everywhere = np.sqrt(EASINESS_SD**2 + noise**2)
    with_gain = np.sqrt(everywhere**2 + GAIN_SD**2)
    on_new = stats.norm.cdf((EASINESS + options.gain) / with_gain) - stats.norm.cdf(
        EASINESS / everywhere
    )
    for _ in range(options.repetitions):
        easy = random.normal(EASINESS, EASINESS_SD, options.images)
        gain = random.normal(options.gain, GAIN_SD, options.images)
        on_these = np.mean(stats.norm.cdf((easy + gain) / noise) - stats.norm.cdf(easy / noise))
        first, plain, other = (_member(random, options) for _ in range(3))
        one, two = (easy + gain + (first + other) / 2 > 0), (easy + (first + plain) / 2 > 0)
        accuracies = (dict(enumerate(right.mean(axis=1))) for right in (one, two))
        intervals = paired(*accuracies)["interval"], crossed(one * 1.0 - two)
        for k, (low, high) in enumerate(intervals):
            covered[k] += [low <= truth <= high for truth in (on_these, on_new)]
    shares = covered / options.repetitions
    return {"paired": tuple(shares[0].tolist()), "crossed": tuple(shares[1].tolist())}


def _member(random: np.random.Generator, options: Simulation) -> np.ndarray:
    """What trainings add to the score of an image: (seeds, images)."""
    shape = options.seeds, options.images
    return random.normal(0, TRAINING_SD, (shape[0], 1)) + random.normal(0, NOISE_SD, shape)


if __name__ == "__main__":
    start.run(main)
