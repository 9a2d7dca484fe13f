"""Sketchbirds: drawn birds for a first run, for tests and for measuring what a network looks at.

A species is a code: one of four variants for each of eight parts. Species split off from each other
as on a tree, a child differing from its parent in two parts, and no two species differ in fewer. So
no part decides alone, and no part is needed: whoever ignores one can still tell all species apart.

Everything else is nuisance and independent of the species: pose, scale, place, plumage colours,
light, background, and twigs and leaves that hide some of the bird. Image i of a split is a pure
function of (seed, split, i); its label is i modulo the number of species. No random draw knows the
species, so that one scene can be drawn with any of them.
"""

from typing import Any

import numpy as np

from fgvc_jax.data.drawing import PARTS, VARIANTS, draw_bird
from fgvc_jax.data.records import Splits
from fgvc_jax.utils.errors import UserError

SEED = 0
"""Seed of what users mean by `sketchbirds`: the images do not change with a run's seed."""

MAX_SPECIES = 200
SPLITS = ("train", "test")


# ------------------------------------------------------------------------------------- species


def species_codes(count: int) -> np.ndarray:
    """Variant of every part of every species: (count, len(PARTS)) int, any two rows >= 2 apart.

    A table of fewer species is the beginning of a table of more.
    """
    rng = np.random.default_rng(2012)
    codes = rng.integers(4, size=(1, len(PARTS)))
    while len(codes) < count:
        children = codes[rng.integers(len(codes), size=64)]
        for child in children:
            changed = rng.choice(len(PARTS), 2, replace=False)
            child[changed] = (child[changed] + rng.integers(1, 4, 2)) % 4
        same = children[:, None] == codes[None]
        # Of those far enough from all, the one whose variants are the rarest so far: every variant
        # ends up shared by about a quarter of the species.
        far_enough = same.sum(axis=2).max(axis=1) <= len(PARTS) - 2
        shared = np.where(far_enough, same.sum(axis=(1, 2)), np.inf)
        if np.isfinite(shared).any():
            codes = np.vstack([codes, children[shared.argmin()]])
    return codes


def defining_parts(codes: np.ndarray) -> np.ndarray:
    """Parts that tell a species from one of its nearest relatives: (species, parts) bool."""
    differs = codes[:, None] != codes[None]
    distance = differs.sum(axis=-1)
    np.fill_diagonal(distance, len(PARTS) + 1)
    nearest = distance == distance.min(axis=1, keepdims=True)
    return (differs & nearest[..., None]).any(axis=1)


def species_names(codes: np.ndarray) -> tuple[str, ...]:
    """A name for every species, such as "fork-tailed spotted finch".

    The bill's shape is the noun. The adjectives are what tells the species from the earlier one
    nearest to it, and as many more as it takes to be unique among the earlier ones.
    """
    noun = PARTS.index("bill_shape")
    names: list[str] = []
    for k, code in enumerate(codes):
        differs = codes[: max(k, 1)] != code
        nearest = differs[differs.sum(axis=1).argmin()]
        telling_first = [p for p in np.argsort(~nearest, kind="stable") if p != noun]
        words = [VARIANTS[PARTS[p]][code[p]] for p in telling_first]
        count = max(int(np.delete(nearest, noun).sum()), 1)
        while (name := " ".join([*words[:count], VARIANTS["bill_shape"][code[noun]]])) in names:
            count += 1
        names.append(name)
    return tuple(names)


# --------------------------------------------------------------------------------------- source


class Sketchbirds:
    """One split: a `Source` whose images are drawn when they are asked for."""

    def __init__(
        self, split: str, codes: np.ndarray, *, seed: int, per_class: int, size: int, first_id: int
    ):
        count = per_class * len(codes)
        self.codes = codes
        self.labels = np.arange(count, dtype=np.int32) % len(codes)
        self.ids = np.arange(first_id, first_id + count, dtype=np.int32)
        self.species = species_names(codes)
        self.names = tuple(
            f"{split}/{self.species[label].replace(' ', '-')}/{i // len(codes):04d}"
            for i, label in enumerate(self.labels)
        )
        self.groups = None
        self._split, self._seed, self._size = split, seed, size

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Any]:
        i = range(len(self))[i]
        return {
            "image": self._render(i, with_masks=False)[0],
            "label": int(self.labels[i]),
            "id": int(self.ids[i]),
            "name": f"sketchbirds/{self.names[i]}",
        }

    def stat(self, i: int) -> None:
        """Drawn images are no files."""

    def parts(self, i: int) -> dict[str, str]:
        """The variant of each part of the bird in image i, by name."""
        return {part: VARIANTS[part][v] for part, v in self._code(i).items()}

    def masks(self, i: int) -> dict[str, np.ndarray]:
        """The visible pixels of each part in image i, (H,W) bool; see `draw_bird`."""
        return self._render(i, with_masks=True)[1]

    def _code(self, i: int) -> dict[str, int]:
        return dict(zip(PARTS, self.codes[self.labels[i]].tolist(), strict=True))

    def _render(self, i: int, with_masks: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        number = range(len(self))[i]
        rng = np.random.default_rng([self._seed, SPLITS.index(self._split), number])
        return draw_bird(rng, self._code(i), size=self._size, with_masks=with_masks)


def open_sketchbirds(
    *,
    seed: int,
    species: int = 24,
    train_per_class: int = 50,
    test_per_class: int = 25,
    size: int = 96,
) -> Splits:
    """The drawn dataset: `species` classes of train and test images, (size,size,3) uint8 arrays.

    `seed` draws the scenes, never the species: these are the first so many of one fixed list.
    Raises UserError if there are not so many species, or no images, or if they were too small.
    """
    if not 2 <= species <= MAX_SPECIES:
        raise UserError(f"sketchbirds has 2 to {MAX_SPECIES} species, not {species}")
    if min(train_per_class, test_per_class) < 1:
        raise UserError("sketchbirds needs at least one training and test image of each species")
    if size < 32:
        raise UserError(f"sketchbirds of {size} px show no parts: draw them at 32 px or more")
    codes = species_codes(species)

    def part(split: str, per_class: int, first_id: int) -> Sketchbirds:
        return Sketchbirds(
            split, codes, seed=seed, per_class=per_class, size=size, first_id=first_id
        )

    return Splits(
        train=part("train", train_per_class, 0),
        test=part("test", test_per_class, species * train_per_class),
        classes=species_names(codes),
    )
