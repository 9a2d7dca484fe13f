"""The ledger: one line of JSON for every run of a study that ended, kept when workdirs are gone.

A line says
- `status`: finished, failed or abandoned; `reason` of the latter two; `ended`: when (UTC);
- `tables`: where it belongs, {"study", "row", "position" of the row, "base"}, the last being the
  digest of what the study's rows vary;
- `config`: the resolved experiment, nested as in config.json, but for fields that change no number;
  of a path its last part only, of a teacher's workdir the last two, which in a study are ROW/SEED;
- `results`: what results.json says of accuracies and attention;
- `right`: which test images every member and every ensemble had right, see `bits`, as far as a line
  has room; `nll`: their mean negative log-likelihoods; `metrics`: more of what judges them (MORE),
  which older lines do not have;
- `digests`: of config, and of data, weights and training as results.json has them;
- `environment` and `seconds`, from there as well.

The same run twice is one line, the newer, which belongs wherever either did and keeps the bits
that only the older has; where their results differ it says so ("contradicted"). A run that finished
replaces its failures of before. So two ledgers are merged by `cat`.
"""

import dataclasses
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax.config import Experiment
from fgvc_jax.evaluation import tallies
from fgvc_jax.study import bits
from fgvc_jax.study.bits import Correctness, digest, keep_names, pack
from fgvc_jax.study.instants import after, instant, now
from fgvc_jax.training import summary
from fgvc_jax.utils import options
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import locks, predictions, storage
from fgvc_jax.workdir.folder import Workdir

Line = dict[str, Any]

FINISHED, FAILED, ABANDONED = "finished", "failed", "abandoned"
MOST = 10_000  # bytes of a line; one that is longer is entered without `right`
TABLE = "study", "base", "row", "position"
SAME_DATA = "data", "weights"  # of the digests, those known before anything is trained
# Of results.json what has another place in a line, or none.
KEPT_ELSEWHERE = (
    *("calibration", "class_names", "digests", "environment", "metrics", "predictions"),
    *("seconds", "source"),
)

MORE = "brier", "ece", "aurc"  # of what results.json says of members and ensembles

Judge = Callable[[str], Correctness | None]
"""The workdir of a finished run -> which images it had right; None where that is not kept."""


def correctness(workdir: str | os.PathLike) -> Correctness | None:
    """Which test images the members of a finished run had right, by their kept answers."""
    opened = Workdir(workdir)
    results = opened.read_results() or {}
    if "predictions" not in results:
        return None
    part = predictions.read(opened.predictions / results["predictions"]["test"])
    answers = [part.log_probabilities(member) for member in results["digests"]["members"]]
    fusion = opened.record().experiment.fusion
    found = tallies.tallies(part.labels, answers, how=fusion)
    members, ensembles = (
        np.stack([tally.right for tally in each]) for each in (found.single, found.ensemble)
    )
    return Correctness(part.names, members, ensembles)


# -- one run -------------------------------------------------------------------------------------


def portable(experiment: Any) -> dict[str, Any]:
    """The fields of an experiment that change a number, nested; of a path its last part only, of a
    teacher's workdir the last two."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(experiment):
        value = getattr(experiment, field.name)
        if dataclasses.is_dataclass(value):
            values[field.name] = portable(value)
        elif nested := options.configs_in(value, field.name):
            values[field.name] = [portable(each) for _, each in nested]
        elif not field.metadata.get("free"):
            parts = 2 if field.name == "teacher" else 1  # ROW/SEED
            values[field.name] = _last_parts(value, parts) if isinstance(value, str) else value
    return values


def _last_parts(text: str, count: int) -> str:
    """cub:/data/birds -> cub:birds; names that are no paths (hf:ORG/NAME, tfds:NAME) stay."""
    kind, colon, path = text.rpartition(":")
    if kind in ("hf", "tfds"):
        return text
    return kind + colon + "/".join(Path(path.strip("/")).parts[-count:])


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{dotted name: value} of nested fields, as JSON has them; of several configs their number."""
    fields: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            fields |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(v, Mapping) for v in value):
            fields[prefix + name] = len(value)
            fields |= flat({str(n): v for n, v in enumerate(value, 1)}, f"{prefix}{name}.")
        else:
            fields[prefix + name] = list(value) if isinstance(value, tuple) else value
    return fields


def digest_of(experiment: Experiment) -> str:
    """Of an experiment's fields that are not the default's, so that it stays what it is when a
    later version has more fields."""
    default = _defaults()
    fields = flat(portable(experiment)).items()
    return digest({name: value for name, value in fields if value != default(name)})


def departures(line: Line, experiment: Experiment) -> dict[str, Any]:
    """The fields of a line's config that are not an experiment's: what a run settled by itself is
    no departure, and a field that the line does not have yet stood at its default."""
    left_open = {
        flag.removeprefix("--").replace("-", "_")
        for flag, spec, value in options.fields(experiment)
        if spec.metadata.get("automatic") and value == spec.default
    }
    default, own = _defaults(), flat(line["config"])
    asked = flat(portable(experiment)).items()
    found = {name: own.get(name, default(name)) for name, _ in asked if name not in left_open}
    return {name: found[name] for name, value in asked if name in found and found[name] != value}


def is_of(line: Line, experiment: Experiment) -> bool:
    """Whether a line is of a run of this experiment."""
    return not departures(line, experiment)


def _defaults() -> Callable[[str], Any]:
    """The default of a field by its dotted name, of a member's own network that of any."""
    known = flat(portable(Experiment()))
    return lambda name: known.get(re.sub(r"^networks\.\d+\.", "network.", name))


def line(
    experiment: Experiment,
    table: Mapping[str, Any],
    *,
    status: str,
    reason: str = "",
    results: Mapping[str, Any] | None = None,
    right: Correctness | None = None,
) -> Line:
    """The line of a run that ended.

    Args:
        experiment: as the run resolved it.
        table: where it belongs, see above.
        status: FINISHED, FAILED or ABANDONED.
        reason: of the latter two.
        results: results.json of a finished run.
        right: which images it had right, where that is known.

    Raises:
        UserError: when `right` and `results` are not of the same run.
    """
    results = dict(results or {})
    judged = results.get("metrics", {})
    if right is not None and (said := bits.contradiction(right, results)):
        raise UserError(
            f"the kept predictions are not those of results.json ({said}): judge the members again "
            "(python -m fgvc_jax.evaluate)"
        )
    return {
        "status": status,
        "reason": re.sub(r"'[^']*/([^'/]*)'", r"'\1'", reason),  # no paths of this machine
        "ended": now(),
        "tables": [dict(table)],
        "config": portable(experiment),
        "results": {name: v for name, v in results.items() if name not in KEPT_ELSEWHERE},
        "right": pack(right) if right else None,
        "nll": {kind: [each["nll"]["value"] for each in found] for kind, found in judged.items()},
        "metrics": {
            kind: [{name: each[name]["value"] for name in MORE} for each in found]
            for kind, found in judged.items()
        },
        "digests": {"config": digest_of(experiment), **results.get("digests", {})},
        "environment": results.get("environment", {"commit": summary.commit()}),
        "seconds": results.get("seconds"),
    }


# -- many ----------------------------------------------------------------------------------------


def read(*paths: Path) -> list[Line]:
    """The lines of several ledgers, each run once, oldest first; a missing file has none.

    Raises:
        UserError: naming a line that cannot be read, or that contradicts itself.
    """
    lines = []
    for path in paths:
        for number, text in enumerate(bits.texts(path), start=1):
            if not text.strip():
                continue
            place = f"{str(path)!r}, line {number},"
            try:
                entry = json.loads(text)
                _identity(entry), entry["config"]["seed"], instant(entry)
                {table[key] for table in entry["tables"] for key in TABLE}
                said = ""
                if entry["status"] == FINISHED:
                    members = entry["config"]["members"]
                    said = bits.impossible(members, entry["results"], entry["right"])
            except (ValueError, LookupError, TypeError, AttributeError, zlib.error) as error:
                raise UserError(f"{place} is no line of a ledger: remove it") from error
            if said:
                raise UserError(
                    f"{place} contradicts itself ({said}): put back what it was, or remove it"
                )
            lines.append(entry)
    return once(lines)


def once(lines: Iterable[Line]) -> list[Line]:
    """Every run once: its newest line, in all tables that any of its lines is in, with what only an
    older one knows. A failure counts until such a run finishes, on the same data as far as known.
    """
    known: dict[tuple, Line] = {}
    for entry in sorted(lines, key=instant):
        older = known.pop(key := _identity(entry), None)  # so that the newest comes last
        known[key] = _merged(older, entry) if older else entry
    finished: dict[str, list[tuple]] = {}
    for key, entry in known.items():
        if entry["status"] == FINISHED:
            finished.setdefault(entry["digests"]["config"], []).append(key)
    for key, entry in list(known.items()):
        later = [] if entry["status"] == FINISHED else finished.get(entry["digests"]["config"], [])
        if replacing := [other for other in later if _replaces(known[other], entry)]:
            del known[key]
            by = replacing[-1]
            known[by] = {**known[by], "tables": _united(known[by], entry)}
    return list(known.values())


def _identity(entry: Line) -> tuple:
    """Equal of two lines of the same run, and of two tries on the same data."""
    names = "config", "data", "weights", "training"
    return (entry["status"] == FINISHED, *(str(entry["digests"].get(name)) for name in names))


def _replaces(finished: Line, failed: Line) -> bool:
    """Whether a finished run makes up for one of the same config: it is no older, and not known to
    be of other data."""
    pairs = [[one["digests"].get(name) for one in (finished, failed)] for name in SAME_DATA]
    return instant(finished) >= instant(failed) and all(
        one == other or other is None for one, other in pairs
    )


def _merged(older: Line, newer: Line) -> Line:
    """The newer of two lines of a run, with tables and bits of the older one. Where that has other
    results, "contradicted" has them: {"ended", "accuracies"}."""
    merged = {**newer, "tables": _united(newer, older)}
    if newer["status"] != FINISHED:
        return merged
    others = [*newer.get("contradicted", ()), *older.get("contradicted", ())]
    said = bits.accuracies(older["results"])
    if bits.equal(said, bits.accuracies(newer["results"])):
        kept = "right", "nll", "metrics"
        known = [name for name in kept if name in newer or name in older]
        merged |= {name: newer.get(name) or older.get(name) for name in known}
    else:
        others.append({"ended": older["ended"], "accuracies": said})
    others = [one for n, one in enumerate(others) if one not in others[:n]]
    return merged | ({"contradicted": others} if others else {})


def _united(one: Line, other: Line) -> list[dict[str, Any]]:
    return one["tables"] + [table for table in other["tables"] if table not in one["tables"]]


def append(path: Path, entry: Line) -> None:
    """Write one line at the end, see `storage.add_line`."""
    storage.add_line(path, _written(entry))


def rewrite(path: Path) -> None:
    """Leave every run of a file its newest line; what others add meanwhile waits."""
    with locks.adding(path):
        storage.write_text(path, "".join(map(_written, read(path))))


def _written(entry: Line) -> str:
    return json.dumps(entry, separators=(",", ":")) + "\n"


# -- a study that runs ---------------------------------------------------------------------------


class Ledger:
    """The ledger that the runs of one study are written to.

    Args:
        path: of the file; it need not exist.
        study: the name of the study.
        base: what its rows vary.
        rows: names of its rows, in order.
        judge: which images a finished run had right.
    """

    def __init__(
        self,
        path: Path,
        *,
        study: str,
        base: Experiment,
        rows: Sequence[str],
        judge: Judge = correctness,
    ):
        self._path, self._judge = path, judge
        place = {"study": study, "base": digest_of(dataclasses.replace(base, seed=0))}
        self._tables = {row: {**place, "row": row, "position": k} for k, row in enumerate(rows)}
        read(path)  # a damaged one is told before anything is trained

    def finished(self, row: str, experiment: Experiment, results: Mapping[str, Any]) -> None:
        """Append a finished run, unless its line is there.

        Args:
            row: of the study.
            experiment: as the run resolved it, with its workdir.
            results: its results.json.
        """
        entry = line(experiment, self._tables[row], status=FINISHED, results=results)
        there = read(self._path)  # now, since other processes of the study write there, too
        if _has(there, entry, judged=True):
            return
        right = self._judge(experiment.workdir)
        full = line(experiment, self._tables[row], status=FINISHED, results=results, right=right)
        if right is not None and len(_written(full)) <= MOST:
            keep_names(self._path.parent, right.names)
            append(self._path, after(there, full))
        elif not _has(there, entry, judged=False):
            append(self._path, after(there, entry))

    def kept(self, row: str, experiment: Experiment) -> Line | None:
        """The newest finished line of such a run, in this ledger or in one beside it; from now on
        it belongs to this row as well."""
        lines = read(*storage.matching(self._path.parent, "*.jsonl"))
        finished = (line for line in reversed(lines) if line["status"] == FINISHED)
        found = next((line for line in finished if is_of(line, experiment)), None)
        table = self._tables[row]
        if found and table not in found["tables"]:
            append(self._path, {**found, "tables": [table]})
        return found

    def unfinished(
        self,
        row: str,
        experiment: Experiment,
        *,
        status: str,
        reason: str,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        """Append a run that failed or was given up, `known` being the digests of what it read."""
        entry = line(experiment, self._tables[row], status=status, reason=reason)
        read_of = {name: value for name, value in (known or {}).items() if name in SAME_DATA}
        entry = {**entry, "digests": {**entry["digests"], **read_of}}
        append(self._path, after(read(self._path), entry))


def _has(lines: Iterable[Line], entry: Line, *, judged: bool) -> bool:
    """Whether a line of the same run says as much."""
    (table,) = entry["tables"]
    own = bits.accuracies(entry["results"])

    def told(known: Line) -> bool:
        others = [one["accuracies"] for one in known.get("contradicted", ())]
        return any(bits.equal(own, one) for one in [bits.accuracies(known["results"]), *others])

    return any(
        _identity(known) == _identity(entry)
        and table in known["tables"]
        and (known["right"] or not judged)
        and told(known)
        for known in lines
    )
