"""What members start from: pretrained weights where there are any, else random ones."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from flax.typing import VariableDict

from fgvc_jax.inference import model
from fgvc_jax.inference.architecture import Architecture
from fgvc_jax.networks import lora, weights
from fgvc_jax.training.warm_start import Rows, WarmStart
from fgvc_jax.utils import devices, digests
from fgvc_jax.utils.errors import UserError

_DRAWN = jax.ShapeDtypeStruct, Rows  # what stands for a variable that is drawn, or in part


class Start:
    """Initial variables of the members of one run.

    Args:
        architectures: of each member.
        pretrained: weights of each, as `weights_named`; None for those that have none.
        seed: of what is random.
    """

    def __init__(
        self,
        architectures: Sequence[Architecture],
        pretrained: Sequence["Weights | None"],
        seed: int,
    ):
        self._architectures = architectures
        self._pretrained = pretrained
        self._seed = seed
        self._read: dict[tuple[int, Weights], VariableDict] = {}

    def variables(self, member: int) -> VariableDict:
        """Of what member `member` (from 1) trains."""
        return self._architectures[member - 1].split(self._whole(member))[1]

    def trunk(self) -> VariableDict:
        """Of the frozen trunk that all share: where there are no weights, the first member's."""
        return self._architectures[0].split(self._whole(1))[0]

    def pretrained(self, member: int) -> VariableDict:
        """Of all of member `member` (from 1) that has pretrained weights."""
        leaves = flatten_dict(self._start_of(member))
        return unflatten_dict({k: v for k, v in leaves.items() if not isinstance(v, _DRAWN)})

    def _whole(self, member: int) -> VariableDict:
        key = jax.random.fold_in(jax.random.key(self._seed), member)
        start = flatten_dict(self._start_of(member))
        missing = [place for place, leaf in start.items() if isinstance(leaf, _DRAWN)]
        drawn = flatten_dict(self._architectures[member - 1].initial(key, missing))
        partly = {p: leaf.put_into(drawn[p]) for p in missing if isinstance(leaf := start[p], Rows)}
        known = {place: np.asarray(start[place]) for place in start.keys() - {*missing}}
        return unflatten_dict(known | drawn | partly)

    def digests(self) -> list[str | None]:
        """Digests of the weights of each member; None where it has none."""
        known = {weights: weights.digest() for weights in set(self._pretrained) if weights}
        return [known[weights] if weights else None for weights in self._pretrained]

    def check(self) -> None:
        """Read the weights of all members; a UserError tells what is wrong with them."""
        starts = [self._start_of(member) for member in range(1, len(self._pretrained) + 1)]
        trunks = {
            digests.of_arrays(architecture.split(start)[0])
            for architecture, weights, start in zip(
                self._architectures, self._pretrained, starts, strict=True
            )
            if isinstance(weights, WarmStart) and architecture.trunk
        }
        if len(trunks) > 1:
            raise UserError(
                "the members that --network.start names were trained whole, so that they have no "
                "trunk in common: leave --network.frozen and --network.lora-rank at their "
                "defaults, or take --members 1"
            )

    def _start_of(self, member: int) -> VariableDict:
        """Variables of pretrained weights, read once; one of _DRAWN where there are none."""
        architecture, pretrained = self._architectures[member - 1], self._pretrained[member - 1]
        if not pretrained:
            return architecture.whole
        key = id(architecture), pretrained
        if key not in self._read:
            self._read[key] = pretrained.load(architecture.whole)
        return self._read[key]


class Weights(Protocol):
    """Pretrained weights that are there."""

    def digest(self) -> str: ...

    def load(self, variables: VariableDict) -> VariableDict:
        """Variables like `variables` with the weights put in, see `weights.load_torch`."""
        ...


class _File:
    def __init__(self, name: str):
        self._name, self._path = name, weights.resolve(name)

    def digest(self) -> str:
        return digests.of_file(self._path)

    def load(self, variables: VariableDict) -> VariableDict:
        return weights.load_torch(self._name, variables)


class _Member:
    """The first member of a workdir, as it ended."""

    def __init__(self, workdir: Path):
        self._workdir = workdir
        asked = model.open_model(workdir, members=1, mesh=devices.own())
        first = asked.members[0]
        own = lora.merged(first.variables) if first.network.adapted else first.variables
        parts = own, asked.trunk
        self._variables = unflatten_dict(
            {k: v for part in parts for k, v in flatten_dict(part).items()}
        )

    def digest(self) -> str:
        return digests.of_arrays(self._variables)

    def load(self, variables: VariableDict) -> VariableDict:
        return weights.load_variables(self._workdir, jax.device_get(self._variables), variables)


def weights_named(name: str) -> Weights:
    """The weights of a name: a file or a hub's folder (`weights.resolve`), or a workdir, of which
    the first member is taken.

    Raises:
        UserError: where there are none.
    """
    folder = Path(os.path.expanduser(name))
    # os.path answers False where a name is too long or a folder is closed to us.
    own = os.path.isfile(folder / "config.json") and os.path.isdir(folder / "members")
    return _Member(folder) if own else _File(name)
