"""A run's frozen trunk: one for all its members, run once for every view of every image."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self

from flax.typing import VariableDict
from jax.sharding import Mesh

from fgvc_jax import networks
from fgvc_jax.config import Network as NetworkOptions
from fgvc_jax.data.view import View
from fgvc_jax.inference import passes
from fgvc_jax.inference.architecture import Architecture
from fgvc_jax.training.precomputed.store import Output
from fgvc_jax.utils import devices, digests
from fgvc_jax.utils.text import Json


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
    variables: VariableDict
    structure: Sequence[Any]
    view: View
    seed: int
    mesh: Mesh
    parts: Sequence[str] = ()

    what = "features"
    broken = "--network.weights do not fit this network"
    instead = "the frozen trunk runs in every step"

    @classmethod
    def of(
        cls,
        options: NetworkOptions,
        architecture: Architecture,
        variables: VariableDict,
        seed: int,
        mesh: Mesh,
    ) -> Self:
        """The trunk of a network of these options."""
        return cls(
            architecture=architecture,
            variables=variables,
            structure=(options.name, options.frozen, options.dtype),
            parts=networks.parts(options.name, dtype=options.dtype, kept=True),
            view=architecture.view,
            seed=seed,
            mesh=mesh,
        )

    @cached_property
    def digest(self) -> str:
        """Digest of the variables."""
        return digests.of_arrays(self.variables)

    @cached_property
    def on_devices(self) -> VariableDict:
        """The variables, on every device."""
        return devices.replicate(self.mesh, self.variables)

    def outputs(self, part: str) -> Mapping[str, Output]:
        """Features of what is shown of an image of a part: in training of its view, and of the
        objective's second one."""
        return self._training if part == "train" else self._test

    @cached_property
    def _training(self) -> dict[str, Output]:
        known: list[Json] = [{**self.view.known, "test_view": None}, self.seed]
        show = passes.TrainingView(self.view, self.seed)
        found = {"features": self._output("features", show, known)._replace(as_in_step=True)}
        if second := self.architecture.objective.second:
            show = dataclasses.replace(show, second=second.show)
            known = [*known, dict(second.options)]
            found["second"] = self._output("second", show, known)._replace(as_in_step=True)
        return found

    @cached_property
    def _test(self) -> dict[str, Output]:
        view = self.view
        known: list[Json] = ["test", *view.test]
        return {"features": self._output("features", passes.TestView(view), known)}

    def _output(self, name: str, show: Callable, known: Sequence[Json]) -> Output:
        shapes = {name: leaf.shape[1:] for name, leaf in self.architecture.features.items()}
        step = passes.trunk_pass(network=self.architecture.network, show=show, mesh=self.mesh)
        known = [self.digest, *self.structure, known]
        return Output(name, partial(step, self.on_devices), shapes, known, self.parts)
