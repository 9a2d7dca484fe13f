"""A run's frozen trunk: one for all its members, run once for every view of every image.

What it makes of a view is looked up as far as it is kept (`cache.Cache`); else it runs before every
step. Either way members are given the same float16 features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
from jax.sharding import Mesh

from fgvc_jax.data import augment
from fgvc_jax.data.view import View
from fgvc_jax.inference import passes
from fgvc_jax.inference.architecture import Architecture
from fgvc_jax.training.precomputed.cache import Output
from fgvc_jax.utils import devices, digests


@dataclass(frozen=True)
class Trunk:
    """The frozen trunk of an architecture, on the way from images to members.

    Args:
        architecture: of the members, whose network has a trunk.
        variables: the trunk's, on the host.
        structure: what tells its network from others, beside the variables.
        view: what is shown of an image.
        seed: of the views in training.
        mesh: devices.
        parts: of `digests.NUMERICS` that its network computes with.
    """

    architecture: Architecture
    variables: Any
    structure: Sequence[Any]
    view: View
    seed: int
    mesh: Mesh
    parts: Sequence[str] = ()

    what = "features"
    broken = "--network.weights do not fit this network"
    instead = "the frozen trunk runs in every step"

    @cached_property
    def digest(self) -> str:
        """Digest of the variables."""
        return digests.of_arrays(self.variables)

    @cached_property
    def on_devices(self) -> Any:
        """The variables, on every device."""
        return devices.replicate(self.mesh, self.variables)

    # -- what is shown -----------------------------------------------------------------------------

    @cached_property
    def _training(self) -> dict[str, tuple[Callable, list[Any]]]:
        """By its name in a batch, what is shown of an image in training: how, and known by what."""
        view, second = self.view, self.architecture.objective.second
        known = [{**view.known, "test_view": None}, self.seed]

        def first_view(arrays, images):
            return passes.normalized_view(view, self.seed, arrays, images)

        def second_view(arrays, images):
            return passes.normalized_view(view, self.seed, arrays, images, second.show)

        shown = {"features": (first_view, known)}
        if second:
            shown["second"] = (second_view, [*known, dict(second.options)])
        return shown

    @cached_property
    def _test(self) -> dict[str, tuple[Callable, list[Any]]]:
        view = self.view
        known = ["test", *view.test]
        return {"features": (lambda arrays, images: augment.test_view(view, images), known)}

    def looks(self, part: str) -> Mapping[str, Output]:
        """What the trunk makes of an image of a part, by its name in a batch."""
        shown = self._training if part == "train" else self._test
        shapes = {name: leaf.shape[1:] for name, leaf in self.architecture.features.items()}
        trunk = [self.digest, *self.structure]
        return {
            name: Output(self._asked(look), shapes, trunk, known, self.parts)
            for name, (look, known) in shown.items()
        }

    def _asked(self, look: Callable) -> Callable:
        """What the trunk makes of what `look` shows, on every device."""
        step = passes.trunk_step(
            network=self.architecture.network,
            show={"features": look},
            mesh=self.mesh,
            everywhere=True,
        )
        return partial(step, self.on_devices)

    @cached_property
    def _training_step(self) -> Callable:
        show = {name: look for name, (look, _) in self._training.items()}
        return passes.trunk_step(network=self.architecture.network, show=show, mesh=self.mesh)

    def run(self, batch: Mapping[str, jax.Array], store: jax.Array | None) -> Mapping[str, Any]:
        """A training batch with the features of its views, unless they were looked up."""
        if "features" in batch:
            return batch
        return self._training_step(self.on_devices, batch, store)
