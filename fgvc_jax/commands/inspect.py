"""Look for what is wrong with a dataset before training."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fgvc_jax.commands import asked
from fgvc_jax.commands.asked import Inspection
from fgvc_jax.training.words import source_of
from fgvc_jax.utils import machine, paths
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import positional, said
from fgvc_jax.utils.text import printable, table
from fgvc_jax.workdir import storage

if TYPE_CHECKING:  # at a start only what --help needs
    import numpy as np
    from markupsafe import Markup

    from fgvc_jax.data.records import Splits
    from fgvc_jax.data.soundness import Finding, Picture

    Counts = dict[str, np.ndarray]  # images of each class (K,), by part

FEW = {"csdnet": 2}  # training images of a class, below which it is named; made for few of them
FEW_OTHERWISE = 5
ROWS = 25  # classes in the table on the terminal
EXAMPLES = 3  # of a finding on the terminal


def main(arguments: list[str]) -> None:
    words, rest = positional(arguments, Inspection())
    if len(words) > 1 or (words and said(rest, "--data.source") not in (None, words[0])):
        raise UserError(f"{words[0]!r} is one of two sources: inspect takes one")
    source = ["--data.source", source_of(words[0])] if words else []
    options = asked.read("inspect", [*rest, *source])
    output = paths.output(options.output) if options.output else None
    stops = inspect(options, output)
    if stops:
        more = f", and {len(stops) - 1} more" if len(stops) > 1 else ""
        raise UserError(f"training would stop: {stops[0]}{more}")


def inspect(options: Inspection, output: Path | None) -> list[str]:
    """Print what was found, write the page, and say what would stop training."""
    from tqdm import tqdm

    from fgvc_jax.data import soundness, sources

    with _heard() as ignored:
        splits = sources.open_source(options.data.source, allow_links=options.data.allow_links)
    splits, stops = _restricted(splits, options)
    total = sum(map(len, splits.parts.values()))
    pictures = soundness.examine_all(
        splits,
        threads=machine.cores(),
        progress=lambda results: tqdm(
            results, "examined", total, unit=" images", leave=False, disable=None
        ),
    )
    few = FEW.get(options.objective, FEW_OTHERWISE)
    found = soundness.findings(splits, pictures, few=few)
    if stops:
        advice = "The training command would refuse what was asked for."
        found.insert(0, soundness.Finding("stops", "The settings", advice, lines=stops))
    if ignored:
        advice = (
            "Images are known by their suffix, parts by the names train, validation and test: "
            "rename or convert what should be used."
        )
        found.append(soundness.Finding("look", "What is not used", advice, lines=ignored))
    counts = soundness.counts(splits)
    print(_report(splits, counts, found))
    if output:
        storage.write_text(output, _page(options, splits, counts, found, pictures))
        print(f"\nwritten: {printable(str(output))}")
    unread = [picture.problem for picture in pictures if picture.problem]
    return [*stops, *unread]


class _Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What reading the folders warns of meanwhile: findings, unless the dataset is refused."""
    ignored: list[str] = []
    logger, handler = logging.getLogger("fgvc_jax.data"), _Kept()
    logger.addHandler(handler)
    propagated, logger.propagate = logger.propagate, False
    try:
        yield ignored
    except UserError:
        logger.propagate = propagated
        logger.removeHandler(handler)
        for record in handler.records:
            logger.handle(record)
        raise
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
    # Pictures in several parts are found again, with their pictures.
    ignored += [
        record.getMessage().removeprefix("warning: ")
        for record in handler.records
        if record.name.endswith((".folders", ".tfds"))
    ]


def _restricted(splits: "Splits", options: Inspection) -> tuple["Splits", list[str]]:
    """The parts as training would have them, and what it would refuse."""
    from fgvc_jax import config
    from fgvc_jax.data import pipeline, sources

    stops: list[str] = []
    try:
        splits = sources.restrict(
            splits,
            classes=options.data.classes,
            images_per_class=options.data.images_per_class,
            validation=options.data.validation,
            seed=options.seed,
        )
    except UserError as error:
        stops.append(str(error))
    checks = (
        lambda: sources.check_can_learn(splits),
        lambda: pipeline.steps_per_epoch(splits.train, options.batch_size),
        lambda: config.settle(config.Experiment(objective=options.objective), splits.train.labels),
    )
    for check in checks:
        try:
            check()
        except UserError as error:
            stops.append(str(error))
    return splits, stops


def _report(splits: "Splits", counts: "Counts", found: "Sequence[Finding]") -> str:
    """What the terminal shows."""
    parts = list(counts)
    order = sorted(range(len(splits.classes)), key=lambda label: counts["train"][label])
    rows = [
        ("all", *(f"{counts[part].sum():,}" for part in parts)),
        *(
            (splits.classes[label], *(f"{counts[part][label]:,}" for part in parts))
            for label in order[:ROWS]
        ),
    ]
    lines = [table(("class, the smallest first", *parts), rows)]
    if len(order) > ROWS:
        lines.append(f"and {len(order) - ROWS:,} more classes")
    marks = {"stops": "STOPS", "look": "look", "note": "note"}
    for one in found:
        lines += ["", f"[{marks[one.level]}] {one.title}: {one.count:,}. {one.advice}"]
        examples = [" = ".join(map(_described, group[:EXAMPLES])) for group in one.groups]
        examples += one.lines
        lines += [f"  {printable(example)}" for example in examples[:EXAMPLES]]
        if len(examples) > EXAMPLES:
            lines.append(f"  and {len(examples) - EXAMPLES:,} more")
    if not found:
        lines += ["", "nothing was found that should worry you"]
    return "\n".join(lines)


def _described(picture: "Picture") -> str:
    return " ".join([picture.name, f"({'; '.join([picture.part, *picture.remarks])})"])


def _page(
    options: Inspection,
    splits: "Splits",
    counts: "Counts",
    found: "Sequence[Finding]",
    pictures: "Sequence[Picture]",
) -> str:
    from fgvc_jax.data import soundness
    from fgvc_jax.figures import page
    from fgvc_jax.figures.inspection import inspection_page

    def show(picture: "Picture", alternative: str) -> "Markup":
        record = splits.parts[picture.part][picture.index]
        return page.image(soundness.opened(record, orientation=splits.orientation), alternative)

    examples: dict[int, Picture] = {}
    for picture in pictures:
        if not picture.problem:
            examples.setdefault(picture.label, picture)
    return inspection_page(
        options.data.source,
        classes=splits.classes,
        counts=counts,
        findings=found,
        examples=examples,
        show=show,
    )
