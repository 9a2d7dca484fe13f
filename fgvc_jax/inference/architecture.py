"""What an experiment's networks are, before and after they have variables.

A member is a network, what it learned, and how images are shown to it: members of one ensemble may
have networks of their own, and those of one network are stacked where they are asked (`together`).
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from flax.typing import VariableDict
from jax.sharding import Mesh

from fgvc_jax import networks
from fgvc_jax.config import Experiment, flagged
from fgvc_jax.config import Network as NetworkOptions
from fgvc_jax.data.view import View
from fgvc_jax.networks import heads, lora
from fgvc_jax.networks.kernels.attention import attention_on
from fgvc_jax.objectives.base import Method, Objective
from fgvc_jax.utils import compilation


class Member(NamedTuple):
    """A network, what it learned, and how images are shown to it."""

    network: networks.Network
    variables: VariableDict
    view: View


@dataclass(frozen=True)
class Architecture:
    """A network with the heads of its objective, before it has variables."""

    network: networks.Network
    objective: Objective
    view: View  # how images are shown to it

    @property
    def _one_image(self) -> jax.Array:
        return jnp.zeros((1, self.view.crop, self.view.crop, 3))

    def _initialize(self, key: jax.Array) -> VariableDict:
        """Random key -> all variables of the network at its start."""
        initial = self.network.init(key, self._one_image, False, method="whole")
        return {"params": initial["params"], "batch_stats": initial.get("batch_stats", {})}

    def initial(self, key: jax.Array, places: Collection[tuple[str, ...]]) -> VariableDict:
        """Those of the network's variables at its start that are at some `places`, on the host.

        A variable is drawn from the key and its place alone, so that what is not asked for is
        neither computed nor compiled.
        """
        asked = frozenset(places)
        if asked not in self._starts:
            self._starts[asked] = jax.jit(
                lambda key: {
                    place: leaf
                    for place, leaf in flatten_dict(self._initialize(key)).items()
                    if place in asked
                },
                compiler_options=compilation.cheaply(),
            )
        return unflatten_dict(jax.device_get(self._starts[asked](key)))

    @cached_property
    def _starts(self) -> dict[frozenset[tuple[str, ...]], Callable]:
        """Compiled starts, by what they give."""
        return {}

    @cached_property
    def whole(self) -> VariableDict:
        """Shapes and dtypes of all variables, the frozen trunk's among them."""
        return jax.eval_shape(self._initialize, jax.random.key(0))

    @cached_property
    def trunk(self) -> VariableDict:
        """Shapes and dtypes of the frozen trunk's variables; empty without one."""
        return self.split(self.whole)[0]

    @cached_property
    def variables(self) -> VariableDict:
        """Shapes and dtypes of a member's variables."""
        return self.split(self.whole)[1]

    @cached_property
    def _places(self) -> frozenset[tuple[str, ...]]:
        """Where the trunk's variables are among all."""
        if self.network.adapted:
            places = flatten_dict(self.whole)
            return frozenset(p for p in places if p[1] == "backbone" and not lora.of_adapter(p))
        if not self.network.frozen:
            return frozenset()
        initial = jax.eval_shape(
            lambda key: self.network.init(key, self._one_image, method="features"),
            jax.random.key(0),
        )
        return frozenset(flatten_dict(initial))

    def split(self, whole: VariableDict) -> tuple[VariableDict, VariableDict]:
        """All variables of a network -> (those of the frozen trunk, those of a member)."""
        leaves = flatten_dict(whole)
        trunk = {place: leaf for place, leaf in leaves.items() if place in self._places}
        member = {place: leaf for place, leaf in leaves.items() if place not in self._places}
        return unflatten_dict(trunk), {"batch_stats": {}} | unflatten_dict(member)

    @cached_property
    def features(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of what the frozen trunk makes of one image."""
        return jax.eval_shape(
            lambda v: self.network.apply(v, self._one_image, method="features"), self.trunk
        )

    @cached_property
    def answer(self) -> tuple[dict, dict]:
        """Shapes and dtypes of (taps, outputs) of one image."""
        return jax.eval_shape(
            lambda v: self.network.apply(v, self._one_image, False, method="whole"), self.whole
        )

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the attention map."""
        taps, _ = self.answer
        return taps["stage5"].shape[1:3]

    def member(self, variables: VariableDict, trunk: VariableDict | None = None) -> Member:
        """A member of this architecture: with adapters it has the trunk's variables beside its own,
        as all members have the same arrays."""
        if self.network.adapted:
            assert trunk is not None
            variables = lora.joined(trunk, variables)
        return Member(self.network, variables, self.view)


def settle(network: NetworkOptions) -> NetworkOptions:
    """The options with pooling and precision decided for the network and these devices."""
    values = vars(network).copy()
    if network.pool == "auto":
        values["pool"] = "max" if network.head == "kt" else networks.pooling(network.name)
    if network.dtype == "auto":
        values["dtype"] = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return NetworkOptions(**values)


def architectures(experiment: Experiment, classes: int, mesh: Mesh) -> list[Architecture]:
    """What each member of an experiment is, for so many classes and on given devices; its options
    are settled. Members of one network share theirs."""
    made: dict[Any, Architecture] = {}
    found = []
    for member in range(1, experiment.members + 1):
        seen = experiment.of(member)
        key = dataclasses.replace(seen.network, weights=""), seen.data.normalize
        if key not in made:
            with flagged(experiment):
                made[key] = _architecture(
                    spec=seen.network,
                    method=seen.method,
                    label_smoothing=seen.label_smoothing,
                    view=seen.data.view,
                    classes=classes,
                    mesh=mesh,
                )
                _ = made[key].whole  # images or heads that do not fit the network show here
        found.append(made[key])
    return found


@compilation.shared
def _architecture(
    *,
    spec: NetworkOptions,
    method: Method,
    label_smoothing: float,
    view: View,
    classes: int,
    mesh: Mesh,
) -> Architecture:
    """What a member is, of the options as it sees them."""
    objective = method.make(classes=classes, label_smoothing=label_smoothing, view=view)
    main: nn.Module
    if objective.head:
        main = objective.head(pool=spec.pool)
    elif spec.head == "kt":
        main = heads.KTHead(classes=classes, width=spec.head_width, pool=spec.pool)
    else:
        main = heads.LinearHead(classes=classes, pool=spec.pool)
    network = networks.create(
        spec.name,
        heads={"logits": main, **objective.heads},
        dtype=jnp.dtype(spec.dtype),
        batch_norm_groups=spec.batch_norm_groups,
        frozen=spec.frozen,
        frozen_norm=spec.frozen_norm,
        last_stride=spec.last_stride,
        attention=attention_on(mesh),
        stochastic_depth=spec.stochastic_depth,
        lora_rank=spec.lora_rank,
    )
    return Architecture(network, objective, view)
