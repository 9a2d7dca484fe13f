"""Look for what is wrong with a dataset before training."""

import logging
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fgvc_jax.commands import asked
from fgvc_jax.commands.asked import Inspection
from fgvc_jax.training.words import source_of
from fgvc_jax.utils import machine, paths, progress
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import positional, said
from fgvc_jax.utils.text import printable, table
from fgvc_jax.workdir import storage

if TYPE_CHECKING:  # at a start only what --help needs
    import numpy as np
    from markupsafe import Markup

    from fgvc_jax.data.records import Splits
    from fgvc_jax.data.soundness import Finding, ImageFacts

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
    options = asked.read(Inspection, "inspect", [*rest, *source])
    output = paths.output(options.output) if options.output else None
    stops = inspect(options, output)
    if stops:
        more = f", and {len(stops) - 1} more" if len(stops) > 1 else ""
        raise UserError(f"training would stop: {stops[0]}{more}")


def inspect(options: Inspection, output: Path | None) -> list[str]:
    """Print what was found, write the page and the list, and say what would stop training."""
    from fgvc_jax.data import cleaning, grouped, left_out, soundness

    splits, ignored, faults = _opened(options)
    if splits is None:
        found = _of_faults(faults)
        print(_listed(found))
        if output:
            storage.write_text(output, _page(options, None, {}, found, []))
            print(f"\nwritten: {printable(str(output))}")
        return faults
    clean = cleaning.new_list(options.clean, splits) if options.clean else None
    splits, stops = _restricted(splits, options)
    pictures = _examined(splits)
    unread = [left_out.LeftOut(p.part, p.name, p.problem) for p in pictures if p.problem]
    strict = left_out.STRICT if options.data.strict else ""
    refusal = left_out.refusal(splits, unread, strict=strict)
    few = FEW.get(options.objective, FEW_OTHERWISE)
    found = soundness.findings(splits, pictures, few=few, stops=refusal)
    reasons = cleaning.reasons(pictures)
    if clean:
        file = grouped.list_of(options.data.source)
        listed = paths.local(file, "list") if file else None
        storage.write_text(clean, cleaning.list_text(splits, reasons, clean.parent, listed))
        found.append(_of_clean(options, splits, pictures, reasons))
    if ignored:
        advice = (
            "Images are known by their suffix, parts by the names train, validation and test: "
            "rename or convert what should be used."
        )
        found.append(soundness.Finding("look", "What is not used", advice, lines=ignored))
    if stops:
        advice = "The training command would refuse what was asked for."
        found.append(soundness.Finding("stops", "The settings", advice, lines=stops))
    found = soundness.ranked([*_of_faults(faults), *found])
    counts = soundness.counts(splits)
    print(_report(splits, counts, found))
    if output:
        storage.write_text(output, _page(options, splits, counts, found, pictures))
        print(f"\nwritten: {printable(str(output))}")
    if clean:
        _tell_of_clean(options, len(pictures), len(reasons))
    elif reasons and splits.own:
        print(f"\n{CLEAN}")
    if splits.own and not (clean or faults or stops or refusal):
        print(f"\nnext: python -m fgvc_jax.train {shlex.quote(options.data.source)}")
    return [*faults, *stops, *([each.reason for each in unread] if refusal else [])]


CLEAN = (
    "--clean FILE.csv writes a list of all images to train on, those that are broken, doubled or "
    "doubtful with the reason why they are not used"
)


def _hint(options: Inspection) -> str:
    """What the page says below what is to be done."""
    if not options.clean:
        return CLEAN
    return f"{options.clean} is a list without what is wrong, to train on: {_training(options)}"


def _opened(options: Inspection) -> "tuple[Splits | None, list[str], list[str]]":
    """The dataset, what of it is not used, and what is wrong with its rows and folders; no dataset
    where too much is.

    Raises:
        UserError: where nothing can be said of single ones.
    """
    from fgvc_jax.data import sources

    faults: list[str] = []
    source, links = options.data.source, options.data.allow_links
    try:
        with _heard() as ignored:
            splits = sources.open_source(
                source, allow_links=links, faults=faults, split_by=options.data.split_by
            )
    except UserError as error:
        if not faults:
            raise
        return None, [], [*faults, str(error)]
    if faults and not all(map(len, splits.parts.values())):
        return None, [], faults
    return splits, ignored, faults


def _of_faults(faults: Sequence[str]) -> "list[Finding]":
    from fgvc_jax.data.soundness import Finding

    advice = "Training stops at the first of these."
    return [Finding("stops", "The list and the folders", advice, lines=faults)] if faults else []


def _examined(splits: "Splits") -> "list[ImageFacts]":
    from fgvc_jax.data import soundness

    total = sum(map(len, splits.parts.values()))
    return soundness.examine_all(
        splits,
        threads=machine.cores(),
        progress=lambda results: progress.bar(
            iterable=results, desc="examined", total=total, unit=" images", leave=False
        ),
    )


def _of_clean(
    options: Inspection,
    splits: "Splits",
    pictures: "Sequence[ImageFacts]",
    reasons: dict[tuple[str, int], str],
) -> "Finding":
    from fgvc_jax.data.soundness import Finding

    advice = (
        "Each has its reason in the last column of the list: remove a reason to use the image "
        "after all."
    )
    lines = [
        f"{picture.name}: {reasons[picture.part, picture.index]}"
        for picture in pictures
        if (picture.part, picture.index) in reasons
    ]
    return Finding("note", f"Left out of {options.clean}", advice, lines=lines)


def _tell_of_clean(options: Inspection, total: int, left: int) -> None:
    """Say what was written and how it is used, and whether it can be as it is."""
    from fgvc_jax.data import sources

    print(
        f"\nwritten: {printable(options.clean)}: {total - left:,} of {total:,} images are used; "
        f"train on them by {_training(options)}"
    )
    try:
        sources.open_source(f"csv:{options.clean}", allow_links=options.data.allow_links)
    except UserError as error:
        print(f"as it is, training would refuse it: {error}")


def _training(options: Inspection) -> str:
    """The command that trains on the list: a word, as --data.source alone leaves the recipe to the
    first run, of drawn birds."""
    workdir = f"runs/{Path(options.clean).stem}_clean"  # beside what the folder's own name gives
    words = shlex.join([f"csv:{options.clean}", "--workdir", workdir])
    return f"python -m fgvc_jax.train {words}"


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
    lines.append(_listed(found) or "\nnothing was found that should worry you")
    return "\n".join(lines)


def _listed(found: "Sequence[Finding]") -> str:
    """The findings as the terminal shows them."""
    lines = []
    marks = {"stops": "STOPS", "look": "look", "note": "note"}
    for one in found:
        lines += ["", f"[{marks[one.level]}] {one.title}: {one.count:,}. {one.advice}"]
        examples = [" = ".join(map(_described, group[:EXAMPLES])) for group in one.groups]
        examples += one.lines
        lines += [f"  {printable(example)}" for example in examples[:EXAMPLES]]
        if len(examples) > EXAMPLES:
            lines.append(f"  and {len(examples) - EXAMPLES:,} more")
    return "\n".join(lines)


def _described(picture: "ImageFacts") -> str:
    return " ".join([picture.name, f"({'; '.join([picture.part, *picture.remarks])})"])


def _page(
    options: Inspection,
    splits: "Splits | None",
    counts: "Counts",
    found: "Sequence[Finding]",
    pictures: "Sequence[ImageFacts]",
) -> str:
    from fgvc_jax.data import soundness, whole
    from fgvc_jax.figures import page
    from fgvc_jax.figures.inspection import inspection_page

    def show(picture: "ImageFacts", alternative: str, side: int) -> "Markup":
        assert splits is not None  # where there are pictures
        record = splits.parts[picture.part][picture.index]
        shown = soundness.own_size(record, orientation=splits.orientation)
        return page.image(shown, alternative, side)

    def place(picture: "ImageFacts") -> str:
        assert splits is not None
        return os.path.abspath(whole.file_of(splits.parts[picture.part], picture.index))

    examples: dict[int, ImageFacts] = {}
    for picture in pictures:
        if not picture.problem:
            examples.setdefault(picture.label, picture)
    return inspection_page(
        options.data.source,
        classes=splits.classes if splits else (),
        counts=counts,
        findings=found,
        examples=examples,
        show=show,
        place=place,
        hint=_hint(options) if splits and splits.own else "",
    )
