"""From the lines of a ledger back to studies: which rows there are, and how they differ."""

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fgvc_jax.config import Experiment
from fgvc_jax.evaluation import statistics
from fgvc_jax.study import definition, pages
from fgvc_jax.study.bits import unpack
from fgvc_jax.study.definition import Study
from fgvc_jax.study.ledger import FINISHED, Line, departures, flat, is_of, portable
from fgvc_jax.utils.errors import UserError


@dataclass(frozen=True)
class Comparison:
    """The runs of one study on one base."""

    study: str
    base: str
    """Digest of what its rows vary."""
    rows: Mapping[str, Mapping[int, Line]]
    """Row -> seed -> line of the finished run; the first row is the reference."""
    unfinished: tuple[tuple[str, Line], ...]
    """(row, line) of runs that failed or were given up."""

    @property
    def first(self) -> str:
        return next(iter(self.rows))

    @property
    def members(self) -> dict[str, int]:
        """The number of members of every row."""
        return {row: line["config"]["members"] for row, line in self.examples.items()}

    @property
    def examples(self) -> dict[str, Line]:
        """One line of every row."""
        return {row: next(iter(lines.values())) for row, lines in self.rows.items()}

    def lines(self) -> Iterator[tuple[statistics.Key, Line]]:
        """((row, seed), line) of every finished run."""
        for row, lines in self.rows.items():
            for seed, line in lines.items():
                yield (row, seed), line

    def summary(self) -> dict[str, Any]:
        """See `statistics.summarize`; empty without a finished run."""
        if not self.rows:
            return {}
        values = {key: _metrics(line) for key, line in self.lines()}
        return statistics.summarize(values, self.members)

    def difference(
        self, row: str, metric: str, other: str, its: str
    ) -> tuple[dict[str, Any], float | None] | None:
        """A row's metric minus another row's, and which share the one has of the other's gain.

        Returns:
            `statistics.paired`, and (one - first row's) / (other - first row's), whose metric is
            that of `row`, of the means over the seeds that all three have; None where there is no
            such gain. None without a pair.
        """
        samples = [
            {seed: values[name] for seed, line in self.rows.get(which, {}).items()
             if name in (values := _metrics(line))}
            for which, name in ((row, metric), (other, its), (self.first, metric))
        ]  # fmt: skip
        found = statistics.paired(*samples[:2])
        seeds = set.intersection(*map(set, samples))
        one, another, first = ({seed: sample[seed] for seed in seeds} for sample in samples)
        own, gain = statistics.paired(one, first), statistics.paired(another, first)
        if not found:
            return None
        return found, own["mean"] / gain["mean"] if own and gain and gain["mean"] else None

    def on_new_images(self, row: str, metric: str) -> list[float] | None:
        """`statistics.crossed` of a row minus the first one; None where no bits are kept, or where
        they are not of the same images."""
        one, other = self.rows[row], self.rows[self.first]
        pairs = [(one[seed], other[seed]) for seed in one if seed in other]
        names = {
            line["right"]["names"] if line["right"] else None for pair in pairs for line in pair
        }
        if row == self.first or len(names) != 1 or None in names:
            return None
        bits = [[_bits(line, metric) for line in pair] for pair in pairs]
        if any(one is None for pair in bits for one in pair):
            return None
        return statistics.crossed(np.array([a.astype(float) - b for a, b in bits]))

    def warnings(self) -> list[str]:
        """In what the runs are not alike that should be."""
        found = pages.mixed({key: line["environment"] for key, line in self.lines()})
        for what, fields in NAMED.items():
            same: dict[str, dict[str, list[statistics.Key]]] = {}
            for key, line in self.lines():
                said = {n: v for n, v in flat(line["config"]).items() if re.fullmatch(fields, n)}
                groups = same.setdefault(str(said), {})
                groups.setdefault(str(line["digests"].get(what)), []).append(key)
            for groups in same.values():
                if len(groups) > 1:
                    which = "; ".join(f"({pages.grouped(keys)})" for keys in groups.values())
                    found.append(f"warning: the runs differ in {what} of one name: {which}")
        return found


# The fields that name what has a digest: runs that name it alike should have the same.
NAMED = {
    "data": r"data\.(source|classes|images_per_class|validation)",
    "weights": r"networks?\.(\d+\.)?weights",
}
CHANGED = "rescued", "spoiled", "any"


def _metrics(line: Line) -> dict[str, float]:
    """`statistics.measure`, nll and nll_N: of the ensemble of all, or of the first N, members; and
    CHANGED, shares of the images, where it is kept which are right."""
    found = line["nll"].get("ensemble", [])
    numbered = {f"nll_{n}": value for n, value in enumerate(found, start=1)}
    values = statistics.measure(line["results"]) | numbered
    if line["right"] and line["right"]["members"] > 1:
        values |= {name: float(bits.mean()) for name, bits in _changed(line).items()}
    return values | ({"nll": found[-1]} if found else {})


def _changed(line: Line) -> dict[str, np.ndarray]:
    """By CHANGED the images that an ensemble has right and its first member wrong, the other way
    round, and that any member has right."""
    members, ensembles = unpack(line["right"])
    together, first = ensembles[-1], members[0]
    return dict(zip(CHANGED, (together & ~first, first & ~together, members.any(0)), strict=True))


def _bits(line: Line, metric: str) -> np.ndarray | None:
    """Which images count for an accuracy such as ensemble, ensemble_2 or single_1, or for one of
    CHANGED."""
    if metric in CHANGED:
        return _changed(line)[metric]
    kind, _, number = metric.partition("_")
    members, ensembles = unpack(line["right"])
    if metric == "ensemble":
        return ensembles[-1]
    chosen = {"ensemble": ensembles, "single": members}.get(kind)
    if chosen is None or not number.isdecimal() or int(number) > len(chosen):
        return None
    return chosen[int(number) - 1]


def comparisons(lines: Iterable[Line]) -> list[Comparison]:
    """All studies of a ledger, by name; rows in the order of the study, seeds in theirs.

    Args:
        lines: from `ledger.read`. Of two runs of a row with the same seed (as on changed data) the
            newer counts.

    Raises:
        UserError: naming a finished run whose line lacks what tables are made of.
    """
    found: dict[tuple[str, str], list[tuple[int, str, Line]]] = {}
    for line in lines:
        for table in line["tables"]:
            key = table["study"], table["base"]
            found.setdefault(key, []).append((table["position"], table["row"], line))
    made = []
    for (study, base), entries in sorted(found.items()):
        entries.sort(key=lambda entry: (entry[0], entry[2]["config"]["seed"]))
        rows: dict[str, dict[int, Line]] = {}
        unfinished = []
        for _, row, line in entries:
            if line["status"] == FINISHED:
                _check(line, f"{study}, {row}")
                rows.setdefault(row, {})[line["config"]["seed"]] = line
            else:
                unfinished.append((row, line))
        made.append(Comparison(study, base, rows, tuple(unfinished)))
    return made


def _check(line: Line, place: str) -> None:
    try:
        _metrics(line), dict(line["environment"]), set(line["seconds"]["members"])
        line["results"]["classes"], line["results"]["images"]["test"]
    except (LookupError, TypeError, ValueError, AttributeError, zlib.error) as error:
        seed, ended = line["config"]["seed"], line["ended"]
        raise UserError(
            f"the ledger's line of {place}, seed {seed}, ended {ended}, is damaged "
            f"({type(error).__name__}: {error}): remove it"
        ) from error


# -- configs -------------------------------------------------------------------------------------


def deviations(config: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """`field other -> config` of every field in which two nested configs differ; fields that only
    one of them has (it is of another version) are left out."""
    own, others = _told(config), _told(other)
    return [
        f"{name} {others[name]!r} -> {own[name]!r}"
        for name in others
        if name in own and own[name] != others[name]
    ]


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a nested config; where members have networks of their own, those by their
    names, without the one that is nobody's."""
    if not config.get("networks"):
        return flat(config)
    named = {"networks": [network["name"] for network in config["networks"]]}
    return flat({name: value for name, value in config.items() if name != "network"}) | named


def kept_to_plan(row: str, line: Line, study: Study) -> bool:
    """Whether a line is of a run that the committed study plans: its row, seed and config."""
    seed = line["config"]["seed"]
    if row not in study.rows or seed >= study.seeds:
        return False
    return is_of(line, _planned(study, row, seed))


def _planned(study: Study, row: str, seed: int) -> Experiment:
    return definition.experiments(study, folder="runs", seeds=seed + 1)[row, seed]


def rebased(one: Comparison, study: Study) -> tuple[Study, list[str]]:
    """A committed study on the base that a comparison's first row has, and `field planned -> had`
    of all in which that is not the study's own."""
    if one.first not in study.rows:
        return study, []
    (seed, line), *_ = one.rows[one.first].items()
    planned = _planned(study, one.first, seed)
    other = departures(line, planned)
    try:
        base = definition.change(study.base, other)
    except UserError:  # of another version, or networks of their own
        return study, []
    own = flat(portable(planned))
    told = [f"{name} {own[name]!r} -> {value!r}" for name, value in other.items()]
    return replace(study, base=base), told
