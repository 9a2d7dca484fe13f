"""From the lines of a ledger back to studies: which rows there are, and how they differ."""

import contextlib
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fgvc_jax.config import Experiment
from fgvc_jax.evaluation import statistics
from fgvc_jax.study import definition, pages
from fgvc_jax.study.bits import accuracies, unpack
from fgvc_jax.study.definition import Study
from fgvc_jax.study.ledger import FINISHED, Line, departures, digest_of, flat, portable
from fgvc_jax.utils.errors import UserError


@dataclass(frozen=True)
class Comparison:
    """The runs of one study on one base."""

    study: str
    base: str
    """Digest of what its rows vary."""
    first: str
    """The row that all others are compared with, whether it has a run or not."""
    rows: Mapping[str, Mapping[int, Line]]
    """Row -> seed -> the newest line of such a finished run."""
    finished: tuple[tuple[str, Line], ...]
    """(row, line) of all finished runs, oldest first."""
    unfinished: tuple[tuple[str, Line], ...]
    """(row, line) of runs that failed or were given up."""
    strayed: Mapping[str, Sequence[statistics.Key]] = field(default_factory=dict)
    """Why finished runs are not as planned, see `astray`, and which."""

    @property
    def members(self) -> dict[str, int]:
        """The number of members of every row, the first of which is `first`; 0 without a run."""
        found = {row: line["config"]["members"] for row, line in self.examples.items()}
        return {self.first: 0} | found

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
        found = statistics.paired(*samples[:2], share=statistics.is_share(metric))
        seeds = set.intersection(*map(set, samples))
        one, another, first = ({seed: sample[seed] for seed in seeds} for sample in samples)
        own, gain = statistics.paired(one, first), statistics.paired(another, first)
        if not found:
            return None
        return found, own["mean"] / gain["mean"] if own and gain and gain["mean"] else None

    def on_new_images(self, row: str, metric: str) -> list[float] | None:
        """`statistics.crossed` of a row minus the first one; None where no bits are kept, or where
        they are not of the same images."""
        one, other = self.rows[row], self.rows.get(self.first, {})
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
        found = pages.environment_warnings({key: line["environment"] for key, line in self.lines()})
        found += [*self._configs(), *self._contradictions()]
        shown = {id(line) for _, line in self.lines()}
        older = [
            (row, line["config"]["seed"]) for row, line in self.finished if id(line) not in shown
        ]
        if older:
            found.append(
                f"warning: a newer run of the row and seed counts: {pages.runs_in_words(older)}"
            )
        for what, fields in NAMED.items():
            same: dict[str, dict[str, list[statistics.Key]]] = {}
            for key, line in self.lines():
                said = {n: v for n, v in flat(line["config"]).items() if re.fullmatch(fields, n)}
                groups = same.setdefault(str(said), {})
                groups.setdefault(str(line["digests"].get(what)), []).append(key)
            for groups in same.values():
                if len(groups) > 1:
                    which = "; ".join(f"({pages.runs_in_words(keys)})" for keys in groups.values())
                    found.append(f"warning: the runs differ in {what} of one name: {which}")
        return found

    def _configs(self) -> Iterator[str]:
        """The rows whose runs differ in more than their seed."""
        for row, lines in self.rows.items():
            example, groups = self.examples[row], {}
            for seed, line in lines.items():
                changed = changes(line, example)
                groups.setdefault(", ".join(changed), []).append((row, seed))
            for changed, keys in groups.items():
                if changed:
                    which = pages.runs_in_words(keys)
                    yield f"warning: the runs of a row differ: {changed} ({which})"

    def _contradictions(self) -> Iterator[str]:
        for (row, seed), line in self.lines():
            for other in line.get("contradicted", ()):
                yield (
                    f"contradiction: {row}, seed {seed}: of equal digests the run that ended "
                    f"{other['ended']} had accuracies {_rounded(other['accuracies'])}, the one of "
                    f"{line['ended']}, which counts, {_rounded(accuracies(line['results']))}"
                )


# The fields that name what has a digest: runs that name it alike should have the same.
NAMED = {
    "data": r"data\.(source|classes|images_per_class|validation)",
    "weights": r"networks?\.(\d+\.)?weights",
}
CHANGED = "rescued", "spoiled", "any"
UNPLANNED = "(not planned)"  # after the name of a row: what else there is of it


def _rounded(values: Iterable[float]) -> str:
    return ", ".join(f"{100 * value:.2f}" for value in values)


def commits(lines: Iterable[Line]) -> list[str]:
    """Of the code that made the members of runs, each once."""
    environments = [line["environment"] for line in lines]
    others = [other for one in environments for other in one.get("others", ())]
    return sorted({str(one.get("commit") or "unknown") for one in [*environments, *others]})


def _metrics(line: Line) -> dict[str, float]:
    """`statistics.measure`; nll and nll_N: of the ensemble of all, or of the first N, members;
    where a line has them `ledger.MORE` of all together and the ambiguity; CHANGED, shares of the
    images, where it is kept which are right.

    ambiguity: the mean Brier score of the members less that of the mean of their probabilities,
    which is what their differences are worth (Krogh and Vedelsby, NeurIPS 1994, of that score).
    """
    found = line["nll"].get("ensemble", [])
    numbered = {f"nll_{n}": value for n, value in enumerate(found, start=1)}
    values = statistics.measure(line["results"]) | numbered
    if line["right"] and line["right"]["members"] > 1:
        values |= {name: float(bits.mean()) for name, bits in _changed(line).items()}
    if more := line.get("metrics"):
        values |= more["ensemble"][-1]
        if len(more["members"]) > 1 and line["config"]["fusion"] == "probabilities":
            of_one = np.mean([each["brier"] for each in more["members"]])
            values["ambiguity"] = float(of_one) - values["brier"]
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
    """All studies of a ledger, by name; rows in the order of the study, as the newest line of each
    has it, seeds in theirs. See `held_to` for what of them is planned.

    Args:
        lines: from `ledger.read`. Of two runs of a row with the same seed (as on changed data) the
            newer counts.

    Raises:
        UserError: naming a finished run whose line lacks what tables are made of.
    """
    found: dict[tuple[str, str], list[tuple[dict[str, Any], Line]]] = {}
    for line in lines:
        for table in line["tables"]:
            found.setdefault((table["study"], table["base"]), []).append((table, line))
    made = []
    for (study, base), entries in sorted(found.items()):
        ended: dict[bool, list[tuple[str, Line]]] = {True: [], False: []}
        for table, line in entries:
            ended[line["status"] == FINISHED].append((table["row"], line))
        for row, line in ended[True]:
            _check(line, f"{study}, {row}")
        positions = {table["row"]: table["position"] for table, _ in entries}
        rows = _by_seed(ended[True], sorted(positions, key=lambda row: (positions[row], row)))
        first = next(iter(rows), "")
        made.append(Comparison(study, base, first, rows, *(tuple(each) for each in ended.values())))
    return made


def _by_seed(
    finished: Iterable[tuple[str, Line]], order: Iterable[str]
) -> dict[str, dict[int, Line]]:
    """The rows that have runs, in order: the newest line of every seed."""
    rows: dict[str, dict[int, Line]] = {row: {} for row in order}
    for row, line in finished:
        rows[row][line["config"]["seed"]] = line
    return {row: dict(sorted(found.items())) for row, found in rows.items() if found}


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
    return _deviations(_told(config), _told(other))


def _deviations(own: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {others[name]!r} -> {own[name]!r}"
        for name in others
        if name in own and own[name] != others[name]
    ]


def changes(line: Line, other: Line) -> list[str]:
    """`deviations` of two lines in more than their seeds, which their views have as well unless
    they have one of their own, and their teachers' workdirs, ROW/SEED."""
    seeds = [str(one["config"]["seed"]) for one in (line, other)]
    fields = [_told(one["config"]) for one in (line, other)]
    teachers = [one.get("kd.teacher", "").rpartition("/") for one in fields]
    for one, seed, (row, _, number) in zip(fields, seeds, teachers, strict=True):
        one["seed"] = 0
        if number == seed:
            one["kd.teacher"] = row
    if [str(one.get("data.view_seed")) for one in fields] == seeds:
        fields[0]["data.view_seed"] = fields[1]["data.view_seed"]
    return _deviations(*fields)


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a nested config, without what the training images decide; where members have
    networks of their own, those by their names, without the one that is nobody's."""
    told = flat(config)
    if config.get("networks"):
        told = flat({name: value for name, value in config.items() if name != "network"})
        told["networks"] = [network["name"] for network in config["networks"]]
    told.pop("ce.counts", None)
    return told


def held_to(study: Study, one: Comparison) -> Comparison:
    """A comparison in the rows, and in the order, of a study: of the lines that kept to its plan
    alone. All others are in rows of their own, which are marked by their names."""
    kept, others, strayed = [], [], {}
    for row, line in one.finished:
        if why := astray(row, line, study):
            strayed.setdefault(why, []).append((row, line["config"]["seed"]))
        (others if why else kept).append((row, line))
    order = dict.fromkeys([*study.rows, *(row for row, _ in others)])
    marked = {f"{row} {UNPLANNED}": found for row, found in _by_seed(others, order).items()}
    rows = _by_seed(kept, study.rows) | marked
    return replace(one, first=next(iter(study.rows)), rows=rows, strayed=strayed)


def kept_to_plan(row: str, line: Line, study: Study) -> bool:
    """Whether a line is of a run that the committed study plans, see `astray`."""
    return not astray(row, line, study)


def astray(row: str, line: Line, study: Study) -> str:
    """Why a line is of no run that the committed study plans, by row, seed, config and a commit
    that says what ran; empty for one that is."""
    seed = line["config"]["seed"]
    if row not in study.rows:
        return "a row that the study does not have"
    if seed not in range(study.seeds):
        return "more seeds than planned"
    if changed := departures(line, _planned(study, row, seed)):
        return ", ".join(f"{name} {value!r}" for name, value in changed.items())
    dirty = any(commit.endswith("-dirty") for commit in commits([line]))
    return "code that no commit has" if dirty else ""


def _planned(study: Study, row: str, seed: int) -> Experiment:
    study = replace(study, rows={row: study.rows[row]})
    return definition.experiments(study, folder="runs", seeds=seed + 1)[row, seed]


class Plan(NamedTuple):
    """What is planned of a comparison: its study, on its base."""

    study: Study | None
    """None where it is not in the folder."""
    moved: list[str]
    """`field planned -> had` of all in which the base is not the study's own."""


def plan_of(folder: Path, one: Comparison) -> Plan:
    """Of a comparison, by the study files in a folder."""
    file = folder / f"{one.study}.py"
    if not file.exists():
        return Plan(None, [])
    return Plan(*rebased(one, definition.load_study(str(file))))


def rebased(one: Comparison, study: Study) -> tuple[Study, list[str]]:
    """A committed study on the base that a comparison has, and `field planned -> had` of all in
    which that is not the study's own.

    A base is known by its digest: what of a line's config makes it is found by trying. Where no
    line does (it is of another version) the study stays on its own.
    """
    if _digest(study) == one.base:
        return study, []
    for row, line in one.finished:
        if row not in study.rows or line["config"]["seed"] not in range(study.seeds):
            continue
        planned = _planned(study, row, line["config"]["seed"])
        other = departures(line, planned)
        with contextlib.suppress(UserError):  # of another version, or networks of their own
            moved = replace(study, base=definition.change(study.base, other))
            if _digest(moved) == one.base:
                own = flat(portable(planned))
                return moved, [f"{name} {own[name]!r} -> {v!r}" for name, v in other.items()]
    return study, []


def _digest(study: Study) -> str:
    return digest_of(replace(study.base, seed=0))
