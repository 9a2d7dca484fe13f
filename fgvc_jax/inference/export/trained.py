"""What is exported: trained members, what is known of them, and an image to try them on."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from fgvc_jax.config import Experiment
from fgvc_jax.config import Network as NetworkOptions
from fgvc_jax.data.images import decode
from fgvc_jax.data.sources import open_source
from fgvc_jax.inference import model
from fgvc_jax.inference.export import function
from fgvc_jax.inference.export.function import Inference
from fgvc_jax.inference.model import Model
from fgvc_jax.inference.predictor import collect
from fgvc_jax.networks.heads import KTHead, LinearHead
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import distinct
from fgvc_jax.workdir.folder import Workdir

DRAWN = 8  # images that the export's answers are compared on
EXACT, ROUNDED = 1e-4, 5e-2  # of a probability; other platforms round products of float32, too


class Drift(NamedTuple):
    """largest: difference of a probability. labels: likeliest classes that are others. dtype: that
    the members compute in."""

    largest: float
    labels: int
    dtype: str

    def check(self) -> None:
        """Raise a UserError where it is more than rounding explains."""
        exact = self.dtype == "float32" and jax.default_backend() == "cpu"
        bound = EXACT if exact else ROUNDED
        if not self.largest <= bound:
            raise UserError(
                f"the export would answer otherwise than the workdir's members: a probability by "
                f"{self.largest:.1e}, where {self.dtype} explains {bound:.0e}; nothing was written"
            )

    def __str__(self) -> str:
        return (
            f"largest difference from the workdir's own answers ({self.dtype}), on {DRAWN} drawn "
            f"images: {self.largest:.1e}; {self.labels} of them get another first class"
        )


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
    def networks(self) -> tuple[NetworkOptions, ...]:
        """The options of each member's network."""
        return self.experiment.each[: len(self.model.members)]

    @cached_property
    def inference(self) -> Inference:
        return function.of(self.model)

    @cached_property
    def drawn(self) -> np.ndarray:
        """(DRAWN, R, R, 3) uint8: drawn birds, which are nobody's photographs."""
        birds, side = open_source("sketchbirds").test, self.inference.side
        return np.stack([decode(birds[i], side, orientation="stored") for i in range(DRAWN)])

    @cached_property
    def _answered(self) -> np.ndarray:
        """(DRAWN, K) float32, what the members say to the drawn images, as it is exported.

        Raises:
            UserError: when that is not finite.
        """
        answered = self.inference(self.drawn)
        if not np.isfinite(answered).all():
            raise UserError(
                "the members' answers are not finite numbers: their training has diverged, so that "
                "there is nothing to export"
            )
        return answered

    @property
    def image(self) -> np.ndarray:
        """(1, R, R, 3) uint8: a drawn bird."""
        return self.drawn[:1]

    @property
    def probabilities(self) -> np.ndarray:
        """(1, K) float32, what the members say to the image; a UserError if it is not finite."""
        return self._answered[:1]

    @cached_property
    def drift(self) -> Drift:
        """How far the export's answers, which are float32's, are from those that the workdir's own
        members give, in the precision that they were trained in."""
        squares = self.model.squares(DRAWN)
        squares[:DRAWN] = self.drawn
        own = np.exp(self.model.fused(collect(self.model.ask(squares), DRAWN)))
        return Drift(
            float(np.abs(self._answered - own).max()),
            int((self._answered.argmax(-1) != own.argmax(-1)).sum()),
            distinct(network.dtype for network in self.networks),
        )

    @property
    def accuracy(self) -> dict[str, float] | None:
        """Of all members together on the test images: {"value", "low", "high", "images"}; None
        where they were not judged."""
        if not self.results:
            return None
        found = self.results["metrics"]["ensemble"][-1]["accuracy"]
        return found | {"images": self.results["images"]["test"]}

    @property
    def head(self) -> str:
        """What makes classes in the first member: --network.head, or an objective that has a head
        of its own."""
        main = self.model.members[0].network.heads.constructors["logits"](parent=None)
        own = not isinstance(main, LinearHead | KTHead)
        return self.experiment.objective if own else self.networks[0].head

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that the objective adds to the main one."""
        network = self.model.members[0].network
        return tuple(name for name in network.heads.constructors if name != "logits")


_OF_ALL = "calibration", "families"  # what results say of all members together alone


def _judged(results: dict[str, Any] | None, opened: Model) -> dict[str, Any]:
    """The results, as far as they are of these very members."""
    if results is None:
        return {}
    try:
        count = len(opened.identities)
        if tuple(results["digests"]["members"][:count]) != opened.identities:
            return {}
        complete = len(results["digests"]["members"]) == count
        return results | {
            "members": results["members"][:count],
            "ensemble": results["ensemble"][:count],
            "metrics": {name: found[:count] for name, found in results["metrics"].items()},
            **{each: results.get(each) if complete else None for each in _OF_ALL},
        }
    except (KeyError, TypeError):
        return {}
