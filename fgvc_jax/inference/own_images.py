"""The images that a run was trained on and is judged on, opened again where they still are."""

from dataclasses import replace

from fgvc_jax.config import Experiment
from fgvc_jax.data import left_out, sources
from fgvc_jax.data.records import Source, Splits
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import unread
from fgvc_jax.workdir.folder import Workdir


def dataset_of(experiment: Experiment) -> Splits:
    """The dataset that an experiment names, restricted as it says."""
    data = experiment.data
    return sources.restrict(
        sources.open_source(data.source, allow_links=data.allow_links, split_by=data.split_by),
        classes=data.classes,
        images_per_class=data.images_per_class,
        validation=data.validation,
        seed=experiment.seed,
    )


def splits_of(workdir: Workdir, allow_links: str = "") -> Splits:
    """The dataset of a run without the images that it did without, of whichever part: the ids of
    all others are counted without them. Links may lead into `allow_links`, or where the run says.
    """
    experiment = workdir.record().experiment
    data = replace(experiment.data, allow_links=allow_links or experiment.data.allow_links)
    splits = dataset_of(replace(experiment, data=data))
    return left_out.without(splits, {each.name for each in unread.left_out(workdir)})


def part(workdir: Workdir, name: str) -> Source:
    """A part of a run's dataset, labelled as its members count classes. It is known by names and
    sizes; nothing is read for that.

    Args:
        workdir: of the run.
        name: "train", "validation" or "test".

    Raises:
        UserError: where the dataset is gone or is another by now.
    """
    record, splits = workdir.record(), splits_of(workdir)
    data = record.experiment.data
    source = sources.with_classes(
        splits.parts[name], splits.classes, record.classes, data.source, some=data.classes > 0
    )
    if digests.of_images(source, record.classes, None) != record.digests[name]["names"]:
        raise UserError(
            f"the {name} images of {data.source!r} are no longer those that the run was begun with"
        )
    return source
