"""What members start from: pretrained weights where there are any, else random ones."""

from functools import cached_property
from typing import Any

import jax
import numpy as np

from fgvc_jax.model import Architecture
from fgvc_jax.networks import weights


class Start:
    """Initial variables of the members of one run.

    Args:
        architecture: of the members.
        file: pretrained weights, see `networks.weights.resolve`; empty for none.
        seed: of what is random.
    """

    def __init__(self, architecture: Architecture, file: str, seed: int):
        self._architecture = architecture
        self._file = file
        self._seed = seed

    def variables(self, member: int) -> Any:
        """Of what member `member` (from 1) trains."""
        return self._architecture.split(self._whole(member))[1]

    def trunk(self) -> Any:
        """Of the frozen trunk that all share: where there are no weights, the first member's."""
        return self._architecture.split(self._whole(1))[0]

    def _whole(self, member: int) -> Any:
        key = jax.random.fold_in(jax.random.key(self._seed), member)
        initial = jax.device_get(self._architecture.initialize(key))

        def choose(pretrained, own):
            return own if isinstance(pretrained, jax.ShapeDtypeStruct) else np.asarray(pretrained)

        return jax.tree.map(choose, self.pretrained, initial)

    @cached_property
    def pretrained(self) -> Any:
        """Variables of the weights' file; a ShapeDtypeStruct where it has none."""
        whole = self._architecture.whole
        return weights.load_torch(self._file, whole) if self._file else whole
