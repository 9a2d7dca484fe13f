"""Judge the trained members of a workdir again."""

import contextlib
import dataclasses
import functools
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fgvc_jax.commands import named
from fgvc_jax.commands.asked import Evaluation
from fgvc_jax.config import Data
from fgvc_jax.data import feed, left_out, sources
from fgvc_jax.data.images import OWN
from fgvc_jax.data.left_out import LeftOut
from fgvc_jax.data.records import Source, Splits, Subset
from fgvc_jax.data.sources import with_classes
from fgvc_jax.data.view import View
from fgvc_jax.evaluation import results_table
from fgvc_jax.inference import answers, listed, model, own_images, unknown
from fgvc_jax.inference.model import Model
from fgvc_jax.training.words import source_of
from fgvc_jax.utils import compilation, devices, digests, machine, processes
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import printable
from fgvc_jax.workdir import (
    calibration,
    columns,
    predictions,
    remembered,
    storage,
    taxonomy,
    unread,
)
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.predictions import Part
from fgvc_jax.workdir.record import Record

log = logging.getLogger(__name__)
Opened = tuple[View, Source, str]  # how images are shown, these, and their digest


def main(arguments: list[str]) -> None:
    options = named.read(Evaluation, "evaluate", arguments)
    options = dataclasses.replace(
        options,
        source=options.source and source_of(options.source),
        unknown=options.unknown and source_of(options.unknown),
    )
    if options.distributed:
        processes.join_processes()
        processes.check_alike(options, ("--workdir", "--source", "--unknown", "--by"))
    results = evaluate(options)
    if results:
        print(
            json.dumps(results, indent=2) if options.json else results_table.results_table(results)
        )


def evaluate(options: Evaluation) -> dict[str, Any]:
    """Judge the members; the part of results.json that needs no journal. Of several processes the
    first one has it, the others nothing.

    Raises:
        UserError: when there is no such run, or its images are not what they were.
    """
    options = named.of_a_run(options)
    compilation.use_compilation_cache()
    workdir = Workdir(options.workdir)
    record = workdir.record()
    source = options.source or record.experiment.data.source
    own = not options.source
    if options.banner != OWN and own and not options.unknown:
        raise UserError("--banner is of --source or --unknown: the run's own images keep theirs")
    if options.by:
        # What is wrong with it is told before the work begins.
        columns.asked(options.by, source, workdir.path, ())
    asked = model.open_model(
        workdir.path,
        which=options.which,
        members=options.members,
        fusion=options.fusion,
        mesh=devices.create_mesh(options.batch_size),
        members_at_once=options.members_at_once,
    )
    if options.unknown and not own:
        raise UserError("--unknown is against the run's own test images: leave out --source")
    if options.unknown and not storage.writable(workdir.path):
        raise UserError("--unknown needs a workdir that can be written: take a copy")
    names = ["test", "validation"] if own and record.selects else ["test"]
    left = [each for each in unread.left_out(workdir) if each.part in names] if own else []
    ways = [asked, asked.with_tta(options.tta)] if options.tta else [asked]
    with _folder(workdir) as folder:
        opened = functools.cache(lambda: _opened(asked, record, options, names, left))
        parts = [_parts(way, record, options, folder, names, opened) for way in ways]
        found, *in_views = (
            _judged(way, record, each) for way, each in zip(ways, parts, strict=True)
        )
        if own and folder == workdir.path:
            _keep_neighbours(workdir, asked, record, options, parts[0])
        by = _by(asked, parts[0]["test"], options, source)
        strange: dict[str, Any] = {}
        if options.unknown:
            strange = _unknown(asked, options, parts[0]["test"])
    if jax.process_index() > 0:
        return {}
    kinds = "metrics", "families", "calibration"
    results = {
        "source": source,
        "classes": len(asked.classes),
        "which": options.which,
        "numbers": list(asked.numbers),
        "images": {"test": found["images"]},
        "left_out": [each._asdict() for each in left],
        "by": by,
        **{
            name: found[name]
            for name in ("members", "ensemble", "attention_overlap", "response_overlap", *kinds)
        },
    }
    if options.unknown:
        results["unknown"] = strange
        calibration.keep_unknown(workdir.path, asked.identities, strange)
    if options.tta:
        (seen,) = in_views
        results["tta"] = {options.tta: {n: seen[n] for n in ("members", "ensemble", *kinds)}}
    return results


def _by(asked: Model, test: Part, options: Evaluation, source: str) -> list[dict[str, Any]]:
    """How many test images are right at each place that --by asks for, or else at each site and
    date that the run's own list told; of several processes the first one has it."""
    kept = asked.calibration_store
    assert kept
    if jax.process_index() > 0:
        return []
    if options.by:
        found = [columns.asked(options.by, source, kept.workdir, test.names)]
    else:
        found = [] if options.source else columns.kept(kept.workdir, test.names)
    return calibration.judge_columns(test, kept, found)


def _unknown(asked: Model, options: Evaluation, test: Part) -> dict[str, Any]:
    """How images of other classes are told from the test images, see `unknown.told_apart`. Those of
    known classes are left out, by the names of these."""
    splits = sources.open_source(options.unknown, to_train=False, allow_links=options.allow_links)
    view = _view(asked, splits, options, options.unknown)
    left = _broken(splits, view, asked, options.strict)
    source = left_out.without(splits, {each.name for each in left}).test
    known = listed.known(splits.classes, asked.classes)
    others = np.flatnonzero(~np.isin(source.labels, known))
    if len(others) < len(source):
        log.warning(
            "warning: --unknown: %d of %d images are left out, which are of known classes: %s",
            len(source) - len(others),
            len(source),
            printable(", ".join(splits.classes[n] for n in known)),
        )
    if not len(others):
        raise UserError(f"--unknown {options.unknown!r}: all its images are of known classes")
    source = Subset(source, others)
    feeding = _Feeding(asked, view, source, options.batch_size)
    found = unknown.told_apart(asked, test, feeding.batches(), list(source.names))
    return {"source": options.unknown, **found}


def _judged(asked: Model, record: Record, parts: dict[str, Part]) -> dict[str, Any]:
    """What members say of the test part, see `calibration.judge_kept`, and alone; of several
    processes the first one has it."""
    if jax.process_index() > 0:
        return {}
    kept = asked.calibration_store
    assert kept
    families = taxonomy.kept(kept.workdir, record.classes)
    if "validation" in parts:
        kept = dataclasses.replace(kept, workdir=parts["validation"].folder.parents[1])
    write = storage.writable(kept.workdir)
    found = calibration.judge_kept(parts["test"], kept, families, write=write)
    return found | {"members": [{"final": accuracy} for accuracy in found["single"]]}


def _parts(
    asked: Model,
    record: Record,
    options: Evaluation,
    folder: Path,
    names: Sequence[str],
    opened: Callable[[], dict[str, Opened]],
) -> dict[str, Part]:
    """The parts that are judged and calibrated on, with every member's answers: those that are
    kept, so that the images may be gone, and what is missing is asked for and kept in the folder.

    A source of one's own has no validation part: the run's serves, where it is kept.
    """
    assert asked.calibration_store
    own, workdir = not options.source, asked.calibration_store.workdir
    kept = {name: _kept(workdir, asked, record, name) if own else None for name in names}
    there = processes.of_first(np.array([kept[name] is not None for name in names]))
    parts: dict[str, Part] = {}
    # How strange images are is told with the answers, where it can be: it is of the one view.
    photographs = remembered.find(workdir, record) if own and not asked.tta else None
    if photographs and not remembered.is_kept(photographs, asked.identities):
        photographs = None
    for (name, part), found in zip(kept.items(), there, strict=True):
        if found:
            if part is None:
                raise UserError(f"{str(workdir)!r} is not the same folder for all processes")
            parts[name] = part
    for name in names:
        if name not in parts:
            view, source, images = opened()[name]
            parts[name] = predictions.part_of(
                folder,
                predictions.in_views(name, asked.tta),
                source,
                classes=asked.classes,
                view=view,
                images=images,
            )
            feeding = _Feeding(asked, view, source, options.batch_size)
            answers.keep_answers(asked, parts[name], feeding.batches, None, photographs=photographs)
    return parts


def _keep_neighbours(
    workdir: Workdir,
    asked: Model,
    record: Record,
    options: Evaluation,
    parts: dict[str, Part],
) -> None:
    """Give a run, such as one of an older version, the training photographs that it is to keep, and
    how strange its members find the images of its parts; a line says why not, where the dataset has
    gone."""
    part = remembered.find(workdir.path, record)
    whole = len(asked.members) == record.experiment.members
    done = part is not None and remembered.is_kept(part, asked.identities)
    done &= all(p.has_novelty(each) for p in parts.values() for each in asked.identities)
    near = (
        part is not None
        and done
        and not len(answers.nearest_missing(asked, part, parts["test"])[1])
    )
    if processes.of_first(np.bool_(near or (part is None and not whole))):
        return
    try:
        left = list(unread.left_out(workdir))
        opened = _opened(asked, record, options, ["train", *parts], left)
    except UserError as error:
        if not done:
            log.warning("no training photographs are kept, to show the nearest ones: %s", error)
        return
    most = len(part.labels) if part else remembered.fitting(sum(asked.widths()))
    _, training, _ = opened["train"]
    part, rows = remembered.part_of(workdir.path, training, record, most)
    size = feed.evaluation_size(len(parts["test"].labels), options.batch_size, asked.mesh)

    def begin(name: str, rows: np.ndarray) -> tuple[Iterator[devices.Packed], None]:
        view, source, _ = opened[name]
        return _Feeding(asked, view, Subset(source, rows), size).batches(whole=True), None

    answers.keep_photographs(
        asked, part, rows, partial(begin, "train"), lambda line, /, **_: log.info(line)
    )
    for name, each in parts.items():
        view, source, _ = opened[name]
        feeding = _Feeding(asked, view, source, options.batch_size)
        answers.keep_answers(asked, each, feeding.batches, None, photographs=part)
    answers.keep_nearest(asked, part, parts["test"], partial(begin, "test"))


@contextlib.contextmanager
def _folder(workdir: Workdir) -> Iterator[Path]:
    """Where answers are kept: the workdir, or for the moment elsewhere if it cannot be written."""
    if storage.writable(workdir.path):
        yield workdir.path
        return
    log.warning("%s cannot be written: nothing is kept of this evaluation", workdir.path)
    with tempfile.TemporaryDirectory() as elsewhere:
        yield Path(elsewhere)


def _kept(folder: Path, asked: Model, record: Record, name: str) -> Part | None:
    """A part of the run where every member's answers are kept."""
    images = digests.best(record.digests[name])
    shown = predictions.in_views(name, asked.tta)
    try:
        part = predictions.read(predictions.folder_of(folder, shown, asked.view, images))
    except UserError:
        return None
    return part if all(part.has(identity) for identity in asked.identities) else None


def _opened(
    asked: Model,
    record: Record,
    options: Evaluation,
    names: Sequence[str],
    left: list[LeftOut],
) -> dict[str, Opened]:
    """Parts of a source, of the run's own where none is named, with the members' classes.

    Of another source a few images that cannot be read are added to `left`; those that are there
    are left out.
    """
    data, own = record.experiment.data, not options.source
    spec, view = options.source or data.source, asked.view
    if own:
        links = options.allow_links or data.allow_links
        splits = own_images.splits_of(Workdir(options.workdir), links)
    else:
        splits = sources.open_source(spec, to_train=False, allow_links=options.allow_links)
        view = _view(asked, splits, options, spec)
        left += _broken(splits, view, asked, options.strict)
        splits = left_out.without(splits, {each.name for each in left})
    opened = {}
    for name in names:
        source = with_classes(
            splits.parts[name], splits.classes, asked.classes, spec, some=data.classes > 0
        )
        contents = None
        if not own or record.digests[name]["contents"]:
            contents = feed.contents(source)
        images = digests.of_images(source, asked.classes, contents)
        if own and images != digests.best(record.digests[name]):
            now = digests.of_data(splits, {name: contents})
            others = " and ".join(digests.changed(record.digests, now)) or f"{name} images"
            raise UserError(
                f"the data of {spec!r} are no longer those that the run was begun with (other "
                f"{others}): name them by --source to judge on what is there now"
            )
        opened[name] = view, source, images
    return opened


def _view(asked: Model, splits: Splits, options: Evaluation, spec: str) -> View:
    """How images of another source are shown: turned, and cut unless --banner says how, as it says;
    where nobody says what the training images lost, a warning tells."""
    rows = dataclasses.replace(Data(), source=spec, banner=options.banner).cut
    if asked.cut and not rows and options.banner == OWN and jax.process_index() == 0:
        log.warning(
            "warning: %d rows were cut off the bottom of the images that the members were trained "
            "on; those of %r are taken whole, unless --banner says how many rows they have of such "
            "a strip",
            asked.cut,
            spec,
        )
    return dataclasses.replace(asked.view, orientation=splits.orientation, banner=options.banner)


def _broken(splits: Splits, view: View, asked: Model, strict: bool) -> list[LeftOut]:
    """The images of the test part that are left out, since they cannot be read; a warning names
    them, and a UserError where they are too many."""
    nothing = Subset(splits.train, [])
    judged = dataclasses.replace(splits, train=nothing, validation=None)
    found = feed.Dataset(judged, view, place="stream", mesh=asked.mesh).look()
    left_out.check(judged, found, strict="--strict" if strict else "")
    if found and jax.process_index() == 0:
        log.warning("warning: %s", left_out.told(found, len(judged.test), "--strict"))
    return found


@dataclasses.dataclass(frozen=True)
class _Feeding:
    """Images of a part, decoded as they are needed."""

    asked: Model
    view: View
    source: Source
    batch_size: int

    def batches(self, whole: bool = False) -> Iterator[devices.Packed]:
        """A pass over them; `whole` has batches of `batch_size`, however few there are."""
        images = feed.load_images(
            self.source,
            self.view.test_side,
            place="stream",
            threads=machine.cores(processes.processes_here()),
            mesh=self.asked.mesh,
            **self.view.reading,
        )
        begin = feed.batches if whole else feed.evaluation_batches
        return begin(images, self.batch_size, self.asked.mesh)
