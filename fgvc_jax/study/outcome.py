"""What is known of the runs of a study: results, metrics, failures, and the files that say so."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fgvc_jax import config
from fgvc_jax.config import Experiment
from fgvc_jax.evaluation import statistics
from fgvc_jax.evaluation.statistics import Key
from fgvc_jax.study import pages
from fgvc_jax.study.definition import Study
from fgvc_jax.study.ledger import ABANDONED, FAILED, Ledger
from fgvc_jax.training import summary
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import begun, locks, mirror, storage
from fgvc_jax.workdir.folder import Workdir

Measure = Callable[[Experiment, dict[str, Any]], dict[str, float]]
Page = Callable[..., str]  # see `pages.study_page`


@dataclass
class Outcome:
    """What is known of the runs of a study."""

    study: Study
    folder: Path
    runs: Mapping[Key, Experiment]
    measure: Measure | None
    page: Page
    metrics: Sequence[str]
    ledger: Ledger
    results: dict[Key, dict[str, Any]] = field(default_factory=dict)
    """results.json of every finished run."""
    values: dict[Key, dict[str, float]] = field(default_factory=dict)
    """Its metrics."""
    failures: dict[Key, str] = field(default_factory=dict)
    """What runs said that failed, now or when they were last tried."""

    def look(self) -> None:
        """Read what earlier starts, and other processes, have left."""
        for key in self.missing():
            self.add(key, results_of(self.runs[key]))
        try:
            saved = storage.read_json(self.folder / "study.json")
        except (FileNotFoundError, UserError):
            return
        for run in saved.get("failed", ()):
            key = run["row"], run["seed"]
            if key in self.runs and key not in self.values:
                self.failures[key] = run["reason"]

    def trust(self) -> None:
        """Count a run whose workdir is gone by its line of the ledger, unless another run learns
        from it."""
        teachers = set().union(*map(teacher_of, self.runs.values()))
        for key in self.missing():
            run = self.runs[key]
            line = None if run.workdir in teachers else self.ledger.kept(key[0], run)
            if line:
                self.failures.pop(key, None)
                self.results[key] = {"environment": line["environment"]}
                self.values[key] = statistics.measure(line["results"])

    def add(self, key: Key, results: dict[str, Any] | None) -> None:
        """Measure a finished run and enter it into the ledger."""
        if results is not None:
            self.failures.pop(key, None)
            self.results[key] = results
            more = self.measure(self.runs[key], results) if self.measure else {}
            self.values[key] = statistics.measure(results) | more
            try:
                self.ledger.finished(key[0], _resolved(self.runs[key]), results)
            except UserError as error:
                self.failures[key] = f"it has no line in the ledger: {error}"

    def fail(self, key: Key, reason: str) -> None:
        """Remember why a run failed, in the ledger as well."""
        self.failures[key] = reason
        self._end(key, FAILED, reason)

    def abandon(self, reason: str) -> None:
        """Enter the runs that were begun and are not finished as given up."""
        for key in self.missing():
            if storage.exists(Workdir(self.runs[key].workdir).config):
                self._end(key, ABANDONED, reason)

    def _end(self, key: Key, status: str, reason: str) -> None:
        known, run = Workdir(self.runs[key].workdir).record().digests, _resolved(self.runs[key])
        self.ledger.unfinished(key[0], run, status=status, reason=reason, known=known)

    def missing(self) -> list[Key]:
        return [key for key in self.runs if key not in self.values]

    def notes(self) -> list[str]:
        """What a reader of the table must know of runs that are not in it, or are not alike."""
        failed = [
            f"failed: {row}, seed {seed}: {why}" for (row, seed), why in self.failures.items()
        ]
        rest = [key for key in self.missing() if key not in self.failures]
        missing = [f"not finished: {pages.runs_in_words(rest)}"] if rest else []
        environments = {key: found["environment"] for key, found in self.results.items()}
        return [*failed, *missing, *pages.environment_warnings(environments)]

    def save(self) -> str:
        """Write study.json and study.md; the text of the latter. Of several processes each in its
        turn, with a look at what the others have left: the last one leaves all runs."""
        with locks.short_lock(self.folder):
            self.look()
            return self._save()

    def _save(self) -> str:
        values = {key: self.values[key] for key in self.runs if key in self.values}
        compared = statistics.summarize(values, self.study.members)
        name = mirror.by_url(str(self.folder)).rpartition("/")[2]
        text = self.page(self.study, compared, name=name, metrics=self.metrics, notes=self.notes())
        storage.write_json(
            self.folder / "study.json",
            {
                "study": name,
                "base": config.to_dict(self.study.base),
                "rows": asdict(self.study)["rows"],
                "runs": [{"row": row, "seed": seed, **run} for (row, seed), run in values.items()],
                "failed": [
                    {"row": row, "seed": seed, "reason": reason}
                    for (row, seed), reason in self.failures.items()
                ],
                "missing": [{"row": row, "seed": seed} for row, seed in self.missing()],
                "summary": compared,
            },
        )
        storage.write_text(self.folder / "study.md", text)
        return text


# -- one run ------------------------------------------------------------------------------------


def teacher_of(run: Experiment) -> set[str]:
    """The workdir that a run learns from, unless that is its own, which training refuses."""
    return ({run.method.asks.workdir} if run.method.asks else set()) - {run.workdir}


def member_record(workdir: Workdir, number: int) -> dict[str, Any]:
    """What is recorded of a member's training; empty where that is lost."""
    try:
        return begun.read(workdir, number)
    except UserError:
        return {}


def _resolved(experiment: Experiment) -> Experiment:
    """The experiment as its run keeps it, with what it settled."""
    return replace(Workdir(experiment.workdir).record().experiment, workdir=experiment.workdir)


def results_of(experiment: Experiment) -> dict[str, Any] | None:
    """results.json of a finished run, else None; its environment is that of all members.

    A file that cannot be read is told and the run taken for unfinished: its members are judged
    again.

    Raises:
        UserError: when the folder is another run's.
    """
    workdir = Workdir(experiment.workdir)
    workdir.continued(experiment)
    if storage.exists(workdir.results) and workdir.read_results() is None:
        summary.tell(f"{workdir.results} cannot be read: its run is judged again")
    results = workdir.finished(experiment.members)
    if results is None or workdir.moved(experiment):
        return None  # where data or weights are said to be elsewhere, training has a look at them
    records = (member_record(workdir, n) for n in range(1, experiment.members + 1))
    environments = [record.get("environment") for record in records]
    others = [one for one in environments if one and one != results["environment"]]
    if others:
        results["environment"]["others"] = others
    return results
