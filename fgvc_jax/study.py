"""Studies: variants of one experiment with several seeds each, compared pair by pair.

A study file has `get_study(base) -> Study`, where `base` has a default. `scripts/study.py` trains
what is missing and prints the table; other scripts measure more of the same runs. Every run is an
ordinary workdir, FOLDER/ROW/SEED, that `fgvc_jax.train` and `fgvc_jax.evaluate` understand as well.
"""

import dataclasses
import difflib
import gc
import math
import re
import runpy
import shutil
import signal
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fgvc_jax import config, train
from fgvc_jax.config import Experiment
from fgvc_jax.errors import Interrupted, UserError
from fgvc_jax.workdir import Workdir, write_json

Key = tuple[str, int]  # (row, seed)
Measure = Callable[[Experiment, dict[str, Any]], dict[str, float]]
Page = Callable[..., str]  # see `report`

CONFIDENCE = 0.95
NO_PERCENTAGES = ("overlap",)


@dataclass(frozen=True)
class Study:
    """What is compared."""

    base: Experiment
    """The experiment that every row changes; its seed and workdir do not matter."""
    rows: Mapping[str, Mapping[str, Any]]
    """Name -> {dotted field: value}, such as {"transfer.name": "none"}; {} is the base itself. All
    rows are compared with the first one."""
    seeds: int = 5
    """Every row is trained with the seeds 0 ... seeds - 1."""
    metrics: tuple[str, ...] = ("ensemble", "single")
    """What the table shows, names as in `measure`; overlap and accuracies of heads come by
    themselves."""


@dataclass(frozen=True)
class Options:
    """Train the runs of a study that are missing and compare its rows.

    A study FILE has get_study(), see scripts/studies/. The same command continues after an
    interruption.
    """

    base: Experiment
    config: str = ""
    """Vary the experiment of this config file, not the one that the study would take."""
    workdir: str = ""
    """Where the runs and the table go; empty: runs/studies/NAME."""
    seeds: int = 0
    """Train the first so many seeds; 0: as many as the study says."""
    minutes: float = math.inf
    """Save and stop after so many minutes; 0 trains nothing and reports what is finished."""
    metrics: tuple[str, ...] = ()
    """ensemble, single, ensemble_N, single_N, ...: what to compare; empty: as the study says."""
    rows: tuple[str, ...] = ()
    """Only these rows, the first of which the others are compared with; empty: all of the study."""


def parse(arguments: Sequence[str], program: str) -> tuple[Study, Options]:
    """The study of `FILE [options]` and the options, with folder, seeds and metrics resolved.

    Raises:
        UserError: for a file or an option that makes no sense.
        SystemExit: 0 after printing `--help`.
    """
    file, *rest = [*arguments] or [""]

    def read(words: Sequence[str], base: Experiment) -> Options:
        return config.command_line(Options, [*words], program=program, default=Options(base=base))

    if file in ("-h", "--help"):
        read([file], Experiment())
    if not file or file.startswith("-"):
        raise UserError("the first argument is a study, such as scripts/studies/hsd.py")
    get_study = load(file)
    options = read(rest, _checked(get_study(), file).base)
    if options.config:
        options = read(rest, config.load_config(options.config))
    study = _chosen(_checked(get_study(options.base), file), options.rows)
    if options.seeds < 0 or not options.minutes >= 0:
        raise UserError("--seeds and --minutes must not be negative")
    return study, replace(
        options,
        workdir=options.workdir or f"runs/studies/{Path(file).stem}",
        seeds=options.seeds or study.seeds,
        metrics=options.metrics or study.metrics,
    )


def load(path: str) -> Callable[..., Study]:
    """The function `get_study` of a Python file, which is run."""
    if not Path(path).is_file():
        raise UserError(f"study {path!r} does not exist; see the files in scripts/studies/")
    try:
        return runpy.run_path(path)["get_study"]
    except KeyError:
        raise UserError(f"study {path!r} has no function get_study()") from None
    except Exception as error:
        raise UserError(f"study {path!r} failed: {type(error).__name__}: {error}") from error


def _checked(study: Any, path: str) -> Study:
    if not isinstance(study, Study):
        raise UserError(f"get_study() of {path!r} returned no fgvc_jax.study.Study")
    return study


def _chosen(study: Study, names: Sequence[str]) -> Study:
    """The study with the named rows only; all for no names."""
    for name in names:
        if name not in study.rows:
            raise UserError(f"row {name!r} is not among {', '.join(study.rows)}")
    return replace(study, rows={name: study.rows[name] for name in names or study.rows})


# -- the runs ------------------------------------------------------------------------------------


def experiments(study: Study, *, folder: Path, seeds: int) -> dict[Key, Experiment]:
    """The checked experiment of every row and seed; all rows of one seed before the next seed.

    Raises:
        UserError: for a row whose name is no folder's, or whose changes make no sense.
    """
    runs = {}
    for seed in range(seeds):
        for row, changes in study.rows.items():
            if not re.fullmatch(r"[\w+=-][\w.+=-]*", row):
                raise UserError(f"row {row!r}: name it with letters, digits and _ . + = -")
            try:
                experiment = change(study.base, changes)
                experiment = replace(experiment, seed=seed, workdir=str(folder / row / str(seed)))
                runs[row, seed] = config.check(experiment)
            except UserError as error:
                raise UserError(f"row {row!r}: {error}") from error
    return runs


def change(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """The experiment with {dotted field: value} put in. UserError for an unknown field or type."""
    for name, value in changes.items():
        experiment = _put(experiment, name, value, name)
    return experiment


def _put(group: Any, path: str, value: Any, name: str) -> Any:
    first, _, rest = path.partition(".")
    known = [field.name for field in dataclasses.fields(group)]
    old = getattr(group, first, None)
    if first not in known or (rest and not dataclasses.is_dataclass(old)):
        near = difflib.get_close_matches(first, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        raise UserError(f"there is no field {name!r}: {hint}")
    if rest:
        value = _put(old, rest, value, name)
    elif type(value) is not type(old) and (type(old), type(value)) != (float, int):
        raise UserError(f"{name} is {value!r}: it must be of type {type(old).__name__}")
    return replace(group, **{first: value})


def train_missing(runs: Mapping[Key, Experiment], *, minutes: float) -> dict[Key, str]:
    """Train every run that is not finished, one after the other, until the time is up.

    The first member of an ensemble learns nothing from others: runs that differ only in transfer or
    in the number of members share it. A run that fails on its way (a loss that is not finite) does
    not keep the others from being trained; a mistake that shows before it starts is raised.

    Returns:
        What the failed runs say.
    """
    missing = {key: e for key, e in runs.items() if _results(e) is None}
    failures: dict[Key, str] = {}
    if not minutes:
        return failures
    with _time_limit(60 * minutes):
        for number, ((row, seed), experiment) in enumerate(missing.items(), start=1):
            train.tell(f"\n[{number}/{len(missing)}] {row}, seed {seed}")
            workdir = Workdir(experiment.workdir)
            _share_first_member(experiment, runs.values())
            try:
                train.train(experiment, workdir)
            except UserError as error:
                if not workdir.config.exists():
                    raise
                failures[row, seed] = str(error)
            gc.collect()  # a run's arrays go before the next one's come
    return failures


def _share_first_member(experiment: Experiment, others: Iterable[Experiment]) -> None:
    """Copy the first member from another run that trained the same one, unless it is there."""
    workdir = Workdir(experiment.workdir)
    copy = workdir.member(1)
    alike = (e for e in others if _first_member(e) == _first_member(experiment))
    trained = (w for e in alike if (w := Workdir(e.workdir)).final(1).exists())
    source = None if copy.exists() else next(trained, None)
    if source is None:
        return
    workdir.claim(experiment)
    partial = copy.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a copy that was killed
    shutil.copytree(source.member(1), partial, ignore=shutil.ignore_patterns("checkpoints"))
    partial.replace(copy)
    train.tell(f"member 1 is that of {source.path}")


def _first_member(experiment: Experiment) -> Experiment:
    """The experiment without all that its first member does not depend on."""
    plain = Experiment()
    free = "workdir", "members", "members_per_pass", "fusion", "transfer"
    return replace(experiment, **{name: getattr(plain, name) for name in free})


def _results(experiment: Experiment) -> dict[str, Any] | None:
    """results.json of a finished run, else None. UserError when the folder is another run's."""
    workdir = Workdir(experiment.workdir)
    workdir.check(experiment)
    return train.finished(workdir, experiment)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Ends the block after so many seconds as SIGTERM would, which saves the training that runs."""
    expired = False

    def expire(_number: int, _frame: object) -> None:
        nonlocal expired
        expired = True
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds if math.isfinite(seconds) else 0)
    try:
        yield
    except Interrupted as stop:
        if not expired:
            raise
        train.tell(f"the time is up: {stop}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- what came out -------------------------------------------------------------------------------


def measure(_experiment: Experiment, results: dict[str, Any]) -> dict[str, float]:
    """Metrics of a finished run, by name.

    ensemble: accuracy of all members together; ensemble_N: of the first N; single: mean of the
    members alone; single_N: of member N; overlap: mean attention overlap of two members, if there
    are two; head_NAME: mean over members of one head's accuracy, "logits" being the main head. All
    at the end of training ("final"), on the test set.
    """
    finals = [member["final"] for member in results["members"]]
    values = {"ensemble": results["ensemble"][-1], "single": statistics.fmean(finals)}
    for kind, accuracies in (("ensemble", results["ensemble"]), ("single", finals)):
        values |= {f"{kind}_{n}": value for n, value in enumerate(accuracies, start=1)}
    overlap = train.mean_overlap(results)
    if overlap is not None:
        values["overlap"] = overlap
    values["head_logits"] = values["single"]  # what a network with one head predicts with
    prefix = "test_accuracy_"
    for name in results["members"][0]:
        if name.startswith(prefix):
            of_head = [member[name] for member in results["members"]]
            values["head_" + name.removeprefix(prefix)] = statistics.fmean(of_head)
    return values


def _interval(sample: Sequence[float]) -> tuple[float | None, list[float] | None]:
    """Sample deviation (ddof 1) and Student's interval of the mean; None of fewer than two."""
    from scipy import stats

    if len(sample) < 2:
        return None, None
    mean, sd = statistics.fmean(sample), statistics.stdev(sample)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(sample) - 1)
    half = float(quantile) * sd / math.sqrt(len(sample))
    return sd, [mean - half, mean + half]


def describe(sample: Sequence[float]) -> dict[str, Any]:
    """{"n", "mean", "sd", "interval"} of one row; sd and interval are None for a single run."""
    sd, interval = _interval(sample)
    return {"n": len(sample), "mean": statistics.fmean(sample), "sd": sd, "interval": interval}


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> dict[str, Any] | None:
    """`one` minus `other` over the seeds that both have: {"n", "mean", "interval", "p"}.

    p is that of the two-sided paired t-test; None for one pair, or when all differences are equal
    (as for two rows that are the same experiment). None without a common seed.
    """
    from scipy import stats

    differences = [one[seed] - other[seed] for seed in one if seed in other]
    if not differences:
        return None
    mean = statistics.fmean(differences)
    sd, interval = _interval(differences)
    p = None
    if sd:
        t = mean / (sd / math.sqrt(len(differences)))
        p = float(2 * stats.t.sf(abs(t), len(differences) - 1))
    return {"n": len(differences), "mean": mean, "interval": interval, "p": p}


def summarize(values: Mapping[Key, Mapping[str, float]], rows: Sequence[str]) -> dict[str, Any]:
    """{metric: {row: `describe`, with "difference": `paired` to the first row or None}}.

    Args:
        values: metrics of every finished run.
        rows: in the order of the study; the first one is the reference.
    """
    summary: dict[str, Any] = {}
    for metric in dict.fromkeys(name for run in values.values() for name in run):
        samples = {
            row: {
                seed: run[metric] for (r, seed), run in values.items() if r == row and metric in run
            }
            for row in rows
        }
        summary[metric] = {
            row: describe(list(sample.values()))
            | {"difference": paired(sample, samples[rows[0]]) if row != rows[0] else None}
            for row, sample in samples.items()
            if sample
        }
    return summary


def shown(summary: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    """The metrics of a table: those asked for, then overlap and heads where there are several."""
    for name in metrics:
        if summary and name not in summary:
            raise UserError(f"metric {name!r} is not among {', '.join(summary)}")
    heads = [name for name in summary if name.startswith("head_")]
    extra = ["overlap", *(heads if len(heads) > 1 else [])]
    return [name for name in dict.fromkeys([*metrics, *extra]) if name in summary]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, labels: int = 1) -> str:
    """A Markdown table that is aligned as text, too: the first `labels` columns to the left."""
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.ljust(width) if k < labels else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(aligned)} |"

    rule = ["-" * w if k < labels else "-" * (w - 1) + ":" for k, w in enumerate(widths)]
    return "\n".join(map(line, [header, rule, *rows]))


def written(value: float | Sequence[float] | None, *, metric: str, sign: str = "") -> str:
    """A value, or both ends of an interval, as tables show them; "-" for None.

    Args:
        value: of a metric, or of a difference.
        metric: its name: overlaps stay as they are, all others are shown in percent.
        sign: "+" shows the sign of positive values, too.
    """
    if value is None:
        return "-"
    if isinstance(value, Sequence):
        return " to ".join(written(end, metric=metric, sign=sign) for end in value)
    scale, digits = (1, 3) if metric in NO_PERCENTAGES else (100, 2)
    return f"{scale * value:{sign}.{digits}f}"


def written_p(p: float | None) -> str:
    """A p-value as tables show it."""
    return "-" if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def table(summary: Mapping[str, Any], metrics: Sequence[str], *, first: str) -> str:
    """The comparison as a Markdown table; accuracies in percent, their differences in points."""
    level = f"{CONFIDENCE:.0%}".replace("%", " %")
    interval = f"{level} interval"
    header = "metric", "row", "n", "mean", "sd", interval, f"minus {first}", interval, "p"
    nothing = {"mean": None, "interval": None, "p": None}
    rows = []
    for metric in metrics:
        for row, cell in summary[metric].items():
            difference = cell["difference"] or nothing
            own = [written(cell[key], metric=metric) for key in ("mean", "sd", "interval")]
            compared = [
                written(difference[key], metric=metric, sign="+") for key in ("mean", "interval")
            ]
            rows.append([metric, row, str(cell["n"]), *own, *compared, written_p(difference["p"])])
    return markdown_table(header, rows, labels=2)


def report(study: Study, summary: Mapping[str, Any], *, name: str, metrics: Sequence[str]) -> str:
    """A Markdown page: what was compared, the table, how to read it."""
    base = "".join(f"- {changed}\n" for changed in config.differences(Experiment(), study.base))
    rows = "".join(
        f"- {row}: {', '.join(f'{k} = {v!r}' for k, v in changes.items()) or 'the base itself'}\n"
        for row, changes in study.rows.items()
    )
    first = next(iter(study.rows))
    return (
        f"# {name}\n\nBase, where it differs from the default experiment:\n{base or '- nowhere'}\n"
        f"Rows:\n{rows}\n{table(summary, shown(summary, metrics), first=first)}\n\n"
        "Test accuracies at the end of training, in percent. Intervals are Student's, over seeds; "
        "differences are paired by seed; p is that of the two-sided paired t-test, not corrected "
        "for the number of comparisons.\n"
    )


def left(runs: Mapping[Key, Experiment], values: Mapping[Key, Any]) -> str:
    """One line: how many runs are not finished, and which."""
    seeds: dict[str, list[str]] = {}
    for row, seed in runs:
        if (row, seed) not in values:
            seeds.setdefault(row, []).append(str(seed))
    if not seeds:
        return f"all {len(runs)} runs are finished"
    which = "; ".join(f"{row}: seeds {' '.join(numbers)}" for row, numbers in seeds.items())
    return f"left: {len(runs) - len(values)} of {len(runs)} runs ({which})"


def carry_out(
    study: Study, options: Options, *, measure: Measure = measure, page: Page = report
) -> None:
    """Train what is missing; save study.json and study.md of what is finished; print the table.

    Args:
        study: from `parse`.
        options: from `parse`.
        measure: (experiment, results) of a finished run -> its metrics.
        page: what study.md says, see `report`.

    Raises:
        UserError: at the end, when runs failed.
    """
    folder = Path(options.workdir)
    runs = experiments(study, folder=folder, seeds=options.seeds)
    failures = train_missing(runs, minutes=options.minutes)
    finished = {key: results for key, e in runs.items() if (results := _results(e)) is not None}
    values = {key: measure(runs[key], results) for key, results in finished.items()}
    summary = summarize(values, list(study.rows))
    name = folder.name
    text = page(study, summary, name=name, metrics=options.metrics)
    outcome = {
        "study": name,
        "base": config.to_dict(study.base),
        "rows": {row: dict(changes) for row, changes in study.rows.items()},
        "runs": [{"row": row, "seed": seed, **run} for (row, seed), run in values.items()],
        "summary": summary,
    }
    write_json(folder / "study.json", outcome)
    (folder / "study.md").write_text(text)
    print(f"\n{text}\n{left(runs, values)}\nsaved: {folder / 'study.md'}, {folder / 'study.json'}")
    if failures:
        (row, seed), reason = next(iter(failures.items()))
        raise UserError(f"{len(failures)} runs failed; {row}, seed {seed}: {reason}")
