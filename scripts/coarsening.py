"""Are answers at coarser levels as seldom wrong as `predict --coarsen` promises?

    python scripts/coarsening.py --workdir runs/birds --risk 0.05

Of a finished run with a taxonomy: the answers that are kept for its test images are parted at
random, again and again, into some to calibrate on and others to judge, as conformal risk control
has it. Told is the share of wrong answers, on average over the partings with its standard error,
what is answered at each level, and the same of the likeliest class alone.
"""

from dataclasses import dataclass

import numpy as np

from fgvc_jax.commands.start import prepare, run
from fgvc_jax.evaluation import calibration, families
from fgvc_jax.evaluation.tallies import Chosen, Fused
from fgvc_jax.utils.command_line import command_line
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import taxonomy
from fgvc_jax.workdir.finished import FinishedRun


@dataclass(frozen=True)
class Arguments:
    """Judge answers at coarser levels on parted test images."""

    workdir: str = ""
    """A finished run with a taxonomy."""
    risk: float = 0.05
    """As --coarsen of predict."""
    images: int = 200
    """That are calibrated on, of which a fifth fits the temperature."""
    times: int = 200
    """So many partings."""
    seed: int = 0
    """Of the partings."""


def main(arguments: list[str]) -> None:
    options = command_line(
        Arguments, arguments, program="python scripts/coarsening.py", default=Arguments()
    )
    found = FinishedRun.of(options.workdir)
    levels = taxonomy.kept(found.workdir.path, found.part.classes)
    if levels is None:
        raise UserError(f"{options.workdir!r} has no taxonomy: train with --data.taxonomy")
    if not 0 < options.images < len(found.part.labels):
        raise UserError(f"--images {options.images}: there are {len(found.part.labels)}")
    random = np.random.default_rng(options.seed)
    errors, shares = [], []
    for _ in range(options.times):
        order = random.permutation(len(found.part.labels))
        ours, theirs = order[: options.images], order[options.images :]
        marked = families.apart(len(ours))
        fused = [
            Fused(Chosen(found.part, rows), found.identities, found.record.experiment.fusion)
            for rows in (ours[marked], ours[~marked], theirs)
        ]
        temperature, _, _ = calibration.fit_temperature(fused[0])
        fitted = families.fit(levels, temperature, fused[1], options.risk)
        judged = families.judge_coarsening(fitted, fused[2])
        errors.append(judged["error"]["value"])
        shares.append(judged["answered"])
    mean, error = np.mean(errors), np.std(errors) / np.sqrt(options.times)
    print(
        f"wrong at {options.risk:.1%} risk: {mean:.2%} +- {error:.2%} of {options.times} partings"
    )
    print(f"answered: {families.told_shares(levels, np.mean(shares, axis=0))}")
    print(f"wrong if the likeliest class is always said: {1 - found.right().mean():.2%}")


if __name__ == "__main__":
    prepare()
    run(main)
