"""What is exported: trained members, what is known of them, and an image to try them on."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fgvc_jax.config import Experiment, Network
from fgvc_jax.data.images import decode
from fgvc_jax.data.sources import open_source
from fgvc_jax.inference import model
from fgvc_jax.inference.export import function
from fgvc_jax.inference.export.function import Inference
from fgvc_jax.inference.model import Model
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir.folder import Workdir


@dataclass(frozen=True)
class Trained:
    """Members of a workdir.

    results: what results.json says; empty where they were not judged yet, or others were. which:
    "final" or "selected".
    """

    model: Model
    experiment: Experiment
    results: dict[str, Any]
    which: str

    @classmethod
    def of(cls, path: str | os.PathLike, *, which: str, members: int | str) -> "Trained":
        """The members of a workdir; see `model.open_model` for what is refused."""
        workdir = Workdir(path)
        opened = model.open_model(path, which=which, members=members)
        experiment = workdir.record().experiment
        if experiment.networks:
            chosen = tuple(experiment.networks[number - 1] for number in opened.numbers)
            experiment = replace(experiment, networks=chosen, members=len(chosen))
        return cls(opened, experiment, _judged(workdir.read_results(), opened), which)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The options of each member's network."""
        return self.experiment.each[: len(self.model.members)]

    @cached_property
    def inference(self) -> Inference:
        return function.of(self.model)

    @cached_property
    def image(self) -> np.ndarray:
        """(1, R, R, 3) uint8: a drawn bird, which is nobody's photograph."""
        record = open_source("sketchbirds").test[0]
        return decode(record, self.inference.side, orientation="stored")[None]

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(1, K) float32, what the members say to the image.

        Raises:
            UserError: when that is not finite.
        """
        answered = self.inference(self.image)
        if not np.isfinite(answered).all():
            raise UserError(
                "the members' answers are not finite numbers: their training has diverged, so that "
                "there is nothing to export"
            )
        return answered

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that the objective adds to the main one."""
        network = self.model.members[0].network
        return tuple(name for name in network.heads.constructors if name != "logits")


def _judged(results: dict[str, Any] | None, opened: Model) -> dict[str, Any]:
    """The results, as far as they are of these very members."""
    try:
        count = len(opened.identities)
        if tuple(results["digests"]["members"][:count]) != opened.identities:
            return {}
        complete = len(results["digests"]["members"]) == count
        return results | {
            "members": results["members"][:count],
            "ensemble": results["ensemble"][:count],
            "metrics": {name: found[:count] for name, found in results["metrics"].items()},
            "calibration": results["calibration"] if complete else None,
        }
    except (KeyError, TypeError):
        return {}
