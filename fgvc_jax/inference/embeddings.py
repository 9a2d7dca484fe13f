"""Embeddings: what networks see of an image as one vector, before a head makes classes of it."""

import dataclasses
import itertools
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from fgvc_jax import config
from fgvc_jax.config import Data, Experiment
from fgvc_jax.config import Network as NetworkOptions
from fgvc_jax.data.framing import Box
from fgvc_jax.data.images import Photograph, Several, decode, one_by_one, record_of
from fgvc_jax.data.view import Photographs
from fgvc_jax.inference import passes
from fgvc_jax.inference.architecture import Member, architectures, settle
from fgvc_jax.inference.predictor import Predictor, collect
from fgvc_jax.networks import weights
from fgvc_jax.transfer import Transfer
from fgvc_jax.utils import devices, options
from fgvc_jax.utils.errors import UserError

MOST = 64  # images that are asked about at a time
log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class Embedder(Predictor):
    """Networks that say what they see of images, whether or not they name classes.

    Args:
        photographs: how images that are asked for are read.
        cut: rows that were cut off the images that the members were trained on.
        numbers: of the members in their run, from 1; empty for the first ones.
    """

    photographs: Photographs = Photographs()
    cut: int = 0
    numbers: Sequence[int] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.numbers = tuple(self.numbers) or tuple(range(1, len(self.members) + 1))
        self._untold = 0 if self.photographs.banner else self.cut

    def embed(self, images: Several, *, tap: str = "", normalize: bool = False) -> np.ndarray:
        """What the members see of images: a vector each, one behind the other.

        Args:
            images: paths, PIL images or (H, W, 3) uint8 arrays; one or several.
            tap: "stage2" to "stage5", averaged over the image, or "token", a transformer's class
                token. Empty: what the main head sees, pooled as it pools, before anything that it
                learned.
            normalize: to rows of length 1, in which every member has the same share. So the dot
                product of two rows is the mean of the members' cosines.

        Returns:
            (B, D) float32. Member i has the next `widths(tap)[i]` columns.

        Raises:
            UserError: for an image that cannot be read, a tap that is not there, and vectors that
                are not finite.
        """
        self.widths(tap)
        parts: list[np.ndarray] = []
        for squares, count in self.read(images):
            done = sum(map(len, parts))
            names = [f"image {done + n}" for n in range(1, count + 1)]
            parts.append(self.vectors(self.begin(squares, tap), names, normalize=normalize))
        return np.concatenate(parts)

    def widths(self, tap: str = "") -> tuple[int, ...]:
        """Numbers in the vector of each member; a UserError for a tap that one does not have."""
        common = sorted(set.intersection(*map(set, self.taps)))
        if tap and tap not in common:
            raise UserError(
                f"--tap is {tap!r}: choose one of {', '.join(common)}, or none for what the head "
                "sees"
            )
        found = []
        for member, taps in zip(self.members, self.taps, strict=True):
            of = partial(member.network.apply, {}, tap=tap, method="embedded")
            found.append(jax.eval_shape(of, taps).shape[-1])
        return tuple(found)

    def begin(self, squares: np.ndarray, tap: str = "") -> list[dict[str, jax.Array]]:
        """Begin to embed (B, R, R, 3) uint8; `vectors` waits for it."""
        batch = self.seen(self.batch(squares), None)
        return [self._embed_pass(m, tap)(m.variables, batch, None) for m in self.members]

    def vectors(
        self, begun: Sequence[dict[str, jax.Array]], names: Sequence[str], *, normalize: bool
    ) -> np.ndarray:
        """(B, D) float32 of the first B images that were begun; `names` of these are for messages.

        Raises:
            UserError: for a vector that is not finite.
        """
        return self.whole(collect(begun, len(names), ["embedding"]), names, normalize=normalize)

    def whole(
        self, seen: Sequence[dict[str, np.ndarray]], names: Sequence[str], *, normalize: bool
    ) -> np.ndarray:
        """As `vectors`, of what each member saw: its "embedding"."""
        parts = [each["embedding"] for each in seen]
        check_finite(parts, names, self.numbers)
        return concatenated(parts, normalize=normalize)

    def _embed_pass(self, member: Member, tap: str) -> Callable:
        return passes.embed_pass(network=member.network, tap=tap, view=member.view, mesh=self.mesh)

    def read(self, images: Several) -> Iterator[tuple[np.ndarray, int]]:
        """Images of any kind, at most MOST at a time: ((B, R, R, 3) uint8, how many they are), see
        `squares`."""
        given = one_by_one(images)
        some = list(itertools.islice(given, MOST))
        if not some:
            raise UserError("no image was given")
        while some:
            squares = self.squares(len(some))
            for i, image in enumerate(some):
                squares[i] = self.square(image)
            yield squares, len(some)
            some = list(itertools.islice(given, MOST))

    def square(self, image: Photograph, box: Box | None = None) -> np.ndarray:
        """(R, R, 3) uint8 of a path, a PIL image or an (H, W, 3) uint8 array, or of a box in it."""
        return self.decoded(record_of(image) | ({} if box is None else {"box": box}))

    def decoded(self, record: dict[str, Any]) -> np.ndarray:
        """(R, R, 3) uint8 of the record of a new photograph."""
        rows, self._untold = self._untold, 0
        if rows:
            log.warning(
                "warning: %d rows were cut off the bottom of the images that the members were "
                "trained on; photographs are taken whole, unless --banner (in Python banner=) says "
                "how many rows they have of such a strip",
                rows,
            )
        return decode(record, self.view.test_side, **self.view.reading | self.photographs.reading)


def check_finite(parts: Sequence[np.ndarray], names: Sequence[str], numbers: Sequence[int]) -> None:
    """Raise a UserError where vectors (B, C) of the members of such numbers are not finite; `names`
    are those of the images."""
    for number, part in zip(numbers, parts, strict=True):
        broken = np.flatnonzero(~np.isfinite(part).all(-1))
        if broken.size:
            raise UserError(
                f"what member {number} sees of {names[broken[0]]!r} is not finite numbers: its "
                "training has diverged; take others (--members), or train again with a lower "
                "--optimizer.learning-rate"
            )


def concatenated(parts: Sequence[np.ndarray], *, normalize: bool) -> np.ndarray:
    """The members' vectors (B, C) side by side: (B, D) float32.

    With `normalize` each part has the length 1 / sqrt(members), so that the row has length 1; one
    of zeros stays as it is.
    """
    if normalize:
        wide = [part.astype(np.float64) for part in parts]
        lengths = [np.linalg.norm(part, axis=-1, keepdims=True) for part in wide]
        parts = [
            part / np.where(length > 0, length, 1) / math.sqrt(len(parts))
            for part, length in zip(wide, lengths, strict=True)
        ]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def open_network(
    name: str,
    file: str | os.PathLike,
    *,
    data: Data,
    mesh: Mesh | None = None,
    orientation: Literal["exif", "stored"] = "exif",
    banner: int = 0,
) -> Embedder:
    """A pretrained network that was not trained here, as the only member.

    Args:
        name: one of `networks.NAMES`.
        file: its weights: a path, hf:ORG/NAME or package:NAME, see `weights.load_torch`.
        data: with the view that images are shown in.
        mesh: devices; None takes all.
        orientation: see `view.Photographs`.
        banner: likewise.

    Raises:
        UserError: for an unknown network, weights that are not its own, and a view that does not
            fit it.
    """
    photographs = Photographs(orientation=orientation, banner=banner)
    options.check(photographs)
    experiment = config.check(
        Experiment(
            members=1,
            data=data,
            network=NetworkOptions(name=name, weights=os.fspath(file), head="linear"),
            transfer=Transfer(name="none"),
        )
    )
    experiment = dataclasses.replace(experiment, network=settle(experiment.network))
    mesh = mesh or devices.create_mesh()
    (plan,) = architectures(experiment, 1, mesh)
    loaded = weights.load_torch(file, plan.whole)
    seeing = {kind: {"backbone": tree["backbone"]} for kind, tree in loaded.items() if tree}
    return Embedder(
        view=experiment.data.view,
        members=[plan.member(devices.replicate(mesh, seeing))],
        logits_of=plan.objective.predict,
        mesh=mesh,
        photographs=photographs,
    )
