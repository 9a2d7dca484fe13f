"""Which classes belong together: a taxonomy over the classes, as genera and families of species.

    species,genus,family
    Corvus corax,Corvus,Corvidae
    Corvus corone,Corvus,Corvidae

A CSV file with a header: the class first, then coarser levels to the right. `CUB` is a table of
ours: genus, family and order of the classes of CUB-200, by the checklist of the American
Ornithological Society and, for the few species of other continents, by that of the International
Ornithologists' Union; compared with the hierarchy of Barz and Denzler (arXiv 1809.09924,
github.com/cvjena/semantic-embeddings), which has the same families and, of before later splits,
fewer genera. English names are not always one species: `Tree_Sparrow` is taken for the American one
and `White_necked_Raven` for the African; `Frigatebird`, `Geococcyx`, `Nighthawk`, `Sayornis` and
`White_Pelican` are several species of one genus.
"""

import difflib
import graphlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from fgvc_jax.data.files import shown
from fgvc_jax.data.names import composed, same_words, words
from fgvc_jax.data.tables import csv_rows
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError

CUB = "cub"  # what --data.taxonomy calls our own table
_CUB_FILE = Path(__file__).with_name("cub_taxonomy.csv")
NAMED = 3  # classes that a message names, at the most


@dataclass(frozen=True)
class Taxonomy:
    """A tree over K classes, whose leaves are all at the same depth.

    levels: names of the L levels, from that of the classes to the coarsest; above that is the root,
    which is no level. lineages: of every class its names at all levels, its own first.
    """

    levels: tuple[str, ...]
    lineages: tuple[tuple[str, ...], ...]

    @cached_property
    def groups(self) -> np.ndarray:
        """(L, K) int: the group of each class at each level, by its place in `names`."""
        places = [{name: place for place, name in enumerate(level)} for level in self.names]
        columns = zip(*self.lineages, strict=True)
        return np.array(
            [[at[name] for name in column] for at, column in zip(places, columns, strict=True)]
        )

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The groups of each level by their names, in the order of the classes."""
        return tuple(tuple(dict.fromkeys(column)) for column in zip(*self.lineages, strict=True))

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"levels": list(self.levels), "classes": {own: up for own, *up in self.lineages}}

    @classmethod
    def from_json(cls, saved: Any, classes: Sequence[str], where: str) -> Self:
        """The taxonomy of classes from what was saved; a UserError where it is none of them."""
        try:
            levels, rows = list(map(str, saved["levels"])), saved["classes"]
            lines = [(where, [name, *list.copy(rows[name])]) for name in classes]
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{where} is damaged ({error}): give --data.taxonomy again in train"
            ) from error
        return cls.of(levels, lines, classes, where)

    @classmethod
    def of(
        cls,
        levels: Sequence[str],
        rows: Sequence[tuple[str, Sequence[str]]],
        classes: Sequence[str],
        where: str,
    ) -> Self:
        """The taxonomy of classes from (place, names at all levels) of these and perhaps of others.

        Raises:
            UserError: where a class is missing or there twice, or the rows are no tree.
        """
        _check_levels(levels, where)
        lineages: dict[str, tuple[str, ...]] = {}
        first: dict[str, str] = {}
        for place, values in rows:
            own, *above = map(str, values)
            lineage = (own, *map(composed, above))
            _check_row(place, lineage, levels)
            if lineage[0] in first:
                raise UserError(
                    f"{place}: {lineage[0]!r} is already there ({first[lineage[0]]}): a "
                    f"{levels[0]} has one row"
                )
            first[lineage[0]] = place
            lineages[lineage[0]] = lineage
        _check_tree(levels, [(place, lineages[name]) for name, place in first.items()], where)
        return cls(tuple(levels), tuple(_found(lineages, classes, where)))


def of_folders(lineages: Sequence[tuple[str, ...]]) -> Taxonomy:
    """The taxonomy of classes that are in folders of coarser levels, see `Splits.lineages`; a
    UserError where a folder's name is in two."""
    above = len(lineages[0]) - 1
    levels = ["class", *(["group"] if above == 1 else [f"group {n}" for n in range(1, above + 1)])]
    rows = [("/".join(reversed(lineage)), lineage) for lineage in lineages]
    return Taxonomy.of(levels, rows, [lineage[0] for lineage in lineages], "the dataset's folders")


def read_taxonomy(spec: str, classes: Sequence[str]) -> Taxonomy:
    """The taxonomy that `--data.taxonomy` names, of these classes: a CSV file, or `CUB`.

    Names match whatever the form of their accents, and, where that is one class alone, however they
    are spaced: `Black-footed albatross` is 001.Black_footed_Albatross. Classes of the file that are
    not asked for are left out.

    Raises:
        UserError: where there is no such file, a class is missing, or it is no tree.
    """
    file = _CUB_FILE if spec == CUB else paths.local(spec, "--data.taxonomy")
    what = CUB if spec == CUB else shown(file)
    (place, levels), *rows = _lines(file)
    if levels[0] in classes:
        raise UserError(
            f"{place}: {levels[0]!r} is a class: put a header above it that names the levels, as "
            "species,genus,family"
        )
    rows = _in_the_spelling_of(rows, classes)
    return Taxonomy.of(levels, rows, classes, f"--data.taxonomy {what}")


def _lines(file: Path) -> list[tuple[str, list[str]]]:
    """(place, cells) of the header and of every row that is not blank."""
    lines = list(_cells(file))
    if len(lines) < 2:
        raise UserError(
            f"taxonomy {shown(file)} has no row below its header: write species,genus,family (or "
            "what the levels are called), then a class a line"
        )
    return lines


def _cells(file: Path) -> Iterator[tuple[str, list[str]]]:
    for where, values in csv_rows(file, "taxonomy"):
        yield where, [composed(value.strip()) for value in values]


def _in_the_spelling_of(
    rows: Sequence[tuple[str, list[str]]], classes: Sequence[str]
) -> list[tuple[str, list[str]]]:
    """The rows with the names of classes as the dataset writes them."""
    spelt, there = {composed(name): name for name in classes}, {values[0] for _, values in rows}
    spaced = same_words(name for form, name in spelt.items() if form not in there)
    own = [spelt.get(name) or spaced.get(words(name), name) for _, (name, *_) in rows]
    return [(place, [name, *above]) for name, (place, (_, *above)) in zip(own, rows, strict=True)]


def _check_levels(levels: Sequence[str], where: str) -> None:
    if len(levels) < 2:
        raise UserError(
            f"{where} has the classes alone: add a column for each coarser level, as "
            "species,genus,family"
        )
    if not all(levels) or len(set(levels)) < len(levels):
        raise UserError(
            f"{where}: the header {','.join(levels)!r} is to name every level, each once"
        )


def _check_row(place: str, lineage: Sequence[str], levels: Sequence[str]) -> None:
    if len(lineage) != len(levels):
        raise UserError(
            f"{place} has {len(lineage)} values for {len(levels)} levels: every class needs one of "
            "each; quote a value that holds a comma"
        )
    for name, level in zip(lineage, levels, strict=True):
        if not name:
            raise UserError(f"{place}: {lineage[0]!r} has no {level}: name one, perhaps its own")


def _check_tree(
    levels: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], where: str
) -> None:
    """Raise a UserError where a group is in two, or below itself."""
    above: dict[tuple[int, str], tuple[str, str]] = {}
    graph: dict[str, set[str]] = {}
    for place, lineage in rows:
        for level, (name, parent) in enumerate(zip(lineage, lineage[1:], strict=False)):
            if name != parent:  # a genus may be called as its only species
                graph.setdefault(name, set()).add(parent)
            other, there = above.setdefault((level, name), (parent, place))
            if other != parent:
                raise UserError(
                    f"{place}: {levels[level]} {name!r} is in {levels[level + 1]} {parent!r} here "
                    f"and in {other!r} at {there}: it belongs to one"
                )
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle = " above ".join(map(repr, error.args[1]))
        raise UserError(
            f"{where}: {circle}: nothing is above itself; are two columns of a row exchanged?"
        ) from None


def _found(
    lineages: Mapping[str, tuple[str, ...]], classes: Sequence[str], where: str
) -> list[tuple[str, ...]]:
    missing = [name for name in classes if name not in lineages]
    if not missing:
        return [lineages[name] for name in classes]
    others = set(lineages) - set(classes)  # a class that is there is not the one that lacks
    near = difflib.get_close_matches(missing[0], others, n=1)
    hint = f" (it has {near[0]!r})" if near else ""
    more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
    told = ", ".join(map(repr, missing[:NAMED]))
    raise UserError(
        f"{where} lacks {len(missing):,} of {len(classes):,} classes: {told}{more}{hint}: add a "
        "row for each"
    )
