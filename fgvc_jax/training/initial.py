"""What members start from: pretrained weights where there are any, else random ones."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fgvc_jax.inference.architecture import Architecture
from fgvc_jax.networks import weights
from fgvc_jax.utils import digests


class Start:
    """Initial variables of the members of one run.

    Args:
        architectures: of each member.
        files: pretrained weights of each, see `networks.weights.resolve`; empty for none.
        seed: of what is random.
    """

    def __init__(self, architectures: Sequence[Architecture], files: Sequence[str], seed: int):
        self._architectures = architectures
        self._files = files
        self._seed = seed
        self._pretrained: dict[Any, Any] = {}

    def variables(self, member: int) -> Any:
        """Of what member `member` (from 1) trains."""
        return self._architectures[member - 1].split(self._whole(member))[1]

    def trunk(self) -> Any:
        """Of the frozen trunk that all share: where there are no weights, the first member's."""
        return self._architectures[0].split(self._whole(1))[0]

    def _whole(self, member: int) -> Any:
        key = jax.random.fold_in(jax.random.key(self._seed), member)
        initial = jax.device_get(self._architectures[member - 1].initialize(key))

        def choose(pretrained, own):
            return own if isinstance(pretrained, jax.ShapeDtypeStruct) else np.asarray(pretrained)

        return jax.tree.map(choose, self._start_of(member), initial)

    def digests(self) -> list[str | None]:
        """Digests of the weights' file of each member; None where it has none."""
        found = {file: digests.of_file(weights.resolve(file)) for file in set(self._files) - {""}}
        return [found.get(file) for file in self._files]

    def check(self) -> None:
        """Read the weights of all members; a UserError tells what is wrong with them."""
        for member in range(1, len(self._files) + 1):
            self._start_of(member)

    def _start_of(self, member: int) -> Any:
        """Variables of a weights' file, read once; a ShapeDtypeStruct where it has none."""
        architecture, file = self._architectures[member - 1], self._files[member - 1]
        if not file:
            return architecture.whole
        key = id(architecture), file
        if key not in self._pretrained:
            self._pretrained[key] = weights.load_torch(file, architecture.whole)
        return self._pretrained[key]
