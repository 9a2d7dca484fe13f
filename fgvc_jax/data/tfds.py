"""Datasets prepared by TensorFlow Datasets in the ArrayRecord format, read without TensorFlow."""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fgvc_jax.data.names import part_named
from fgvc_jax.data.records import TO_TRAIN, Opening, Source, Splits, Subset
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

NAME = re.compile(r"(?P<folder>\w+(/\w[\w.-]*)?)(:(?P<version>\d+\.\d+\.\d+))?", re.ASCII)
READ_AT_ONCE = 512  # records, when only their labels are wanted

log = logging.getLogger(__name__)


class Serialized(Protocol):
    """The records of a prepared split, one or several at a time."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> bytes: ...
    def __getitems__(self, indices: Sequence[int], /) -> Sequence[bytes]: ...


class PreparedSplit:
    """A Source of one split of a prepared dataset: serialized `records`, images left encoded."""

    def __init__(
        self,
        records: Serialized,
        labels: np.ndarray,
        *,
        features: "tfds.features.FeaturesDict",
        name: str,
        part: str,
        first: int,
    ):
        self.records = records
        self.labels = labels
        self.ids = np.arange(first, first + len(labels), dtype=np.int32)
        self.names = tuple(f"{part}/{index}" for index in range(len(labels)))
        self.groups = None
        self.features = features
        self.name = name

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]
        name = f"{self.name}[{index}]"
        try:
            (image,) = _decoded(self.features, self.records[index]).values()
        except Exception as error:  # array_record raises nearly anything on broken files
            raise UserError(f"{name} cannot be read ({_brief(error)}): prepare it again") from error
        return {
            "image": image,
            "label": int(self.labels[index]),
            "id": int(self.ids[index]),
            "name": name,
        }

    def stat(self, index: int) -> None:
        """Many images share a file."""


def open_tfds(spec: str, how: Opening = TO_TRAIN) -> Splits:
    """`NAME[/CONFIG][:VERSION][@DIR]`: a dataset prepared under DIR in the ArrayRecord format.

    DIR is, where not given, $TFDS_DATA_DIR or ~/tensorflow_datasets; VERSION the newest there. Only
    files are read: no code of the dataset runs, nothing is downloaded, TensorFlow is not imported.
    The image and the label are the dataset's supervised pair. The parts are those that are named
    so (`names.part_named`); a validation part stands in for a test part. Opening reads every label
    once.
    """
    name, _, directory = spec.partition("@")
    directory = directory or os.environ.get("TFDS_DATA_DIR", "") or "~/tensorflow_datasets"
    builder = _builder(name, _prepared(name, paths.local(directory, "TFDS folder")))
    image, label = _pair(builder, name)
    roles = _roles(builder, name, how)
    classes = _class_names(builder.info.features[label])
    sources: dict[str, Source] = {}
    for role, split in roles.items():
        first = sum(map(len, sources.values()))
        sources[role] = _source(builder, split, image, label, classes, name=name, first=first)
    if "train" not in sources:
        sources["train"] = Subset(sources["test"], [])
    return Splits(
        train=sources["train"],
        test=sources["test"],
        classes=classes,
        validation=sources.get("validation"),
    )


def _roles(builder: "tfds.core.DatasetBuilder", name: str, how: Opening) -> dict[str, str]:
    """The splits that are used, by what for; what is not used is told."""
    splits = builder.info.splits
    known = {part_named(split): split for split in reversed(splits) if part_named(split)}
    test = known.get("test") or known.get("validation")
    if test is None or (how.to_train and "train" not in known):
        raise UserError(
            f"tfds:{name} has the splits {', '.join(splits) or 'none'}: it takes train, and one of "
            "test, validation"
        )
    roles = {"train": known["train"]} if "train" in known else {}
    roles["test"] = test
    if how.to_train and "validation" in known and test != known["validation"]:
        roles["validation"] = known["validation"]
    for split in splits:
        if split not in roles.values():
            log.warning(
                "warning: the split %r of tfds:%s with %s images is not used",
                split,
                name,
                f"{splits[split].num_examples:,}",
            )
    return roles


def _prepared(name: str, directory: Path) -> Path:
    """The folder of the version that `name` asks for."""
    match = NAME.fullmatch(name)
    if not match:
        raise UserError(f"tfds:{name!r} is not of the form NAME[/CONFIG][:VERSION][@DIR]")
    home = directory / match["folder"]
    versions = {
        tuple(map(int, folder.name.split("."))): folder
        for folder in (home.iterdir() if os.path.isdir(home) else ())
        if re.fullmatch(r"\d+\.\d+\.\d+", folder.name, re.ASCII)
        and (folder / "dataset_info.json").is_file()
    }
    if match["version"]:
        wanted = versions.get(tuple(map(int, match["version"].split("."))))
    else:
        wanted = versions[max(versions)] if versions else None
    if wanted is None:
        raise UserError(
            f"tfds:{name} is not prepared in {str(directory)!r}, and nothing is downloaded here: "
            f"{_recipe(name)}, or name the folder as tfds:{name}@DIR"
        )
    return wanted


def _recipe(name: str) -> str:
    return (
        f"run `import tensorflow_datasets as tfds; tfds.builder({name!r}, data_dir=DIR)"
        ".download_and_prepare(file_format='array_record')` once"
    )


def _builder(name: str, folder: Path) -> "tfds.core.DatasetBuilder":
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"tfds:{name} is read by the package tensorflow-datasets (and array-record): install it"
        ) from error
    try:
        builder = tfds.builder_from_directory(folder)
        formats = {kind.value for kind in builder.info.available_file_formats()}
    except Exception as error:  # the files' content may be anything
        raise UserError(
            f"{str(folder)!r} is not a readable dataset ({_brief(error)}): prepare it again"
        ) from error
    if "array_record" not in formats:
        raise UserError(
            f"{str(folder)!r} is in the format {', '.join(sorted(formats))}, which cannot be read "
            f"at random without TensorFlow: {_recipe(name)} with another DIR"
        )
    return builder


def _pair(builder: "tfds.core.DatasetBuilder", name: str) -> tuple[str, str]:
    """The names of the features that are the image and its class."""
    import tensorflow_datasets as tfds

    features, pair = builder.info.features, builder.info.supervised_keys or ("image", "label")
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    if len(pair) != 2 or not all(
        key in features and isinstance(features[key], kind)
        for key, kind in zip(pair, kinds, strict=True)
    ):
        raise UserError(
            f"tfds:{name} is no dataset of images with one class each: its features are "
            f"{', '.join(features)}"
        )
    return pair


def _class_names(label: "tfds.features.ClassLabel") -> tuple[str, ...]:
    return tuple(label.names or map(str, range(label.num_classes or 0)))


def _source(
    builder: "tfds.core.DatasetBuilder",
    part: str,
    image: str,
    label: str,
    classes: tuple[str, ...],
    *,
    name: str,
    first: int,
) -> PreparedSplit:
    import tensorflow_datasets as tfds

    features = builder.info.features
    where = f"tfds:{name} {part}"
    try:
        records = builder.as_data_source(
            part, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        labels = _labels(records, tfds.features.FeaturesDict({label: features[label]}))
    except Exception as error:  # array_record raises nearly anything on broken files
        raise UserError(f"{where} cannot be read ({_brief(error)}): prepare it again") from error
    if not len(labels):
        raise UserError(f"{where} has no image: prepare it again")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong):
        raise UserError(
            f"{where}[{wrong[0]}]: label {labels[wrong[0]]} is outside 0..{len(classes) - 1}; a "
            "split without labels cannot be used"
        )
    return PreparedSplit(
        records,
        labels.astype(np.int32),
        features=tfds.features.FeaturesDict({image: features[image]}),
        name=where,
        part=part,
        first=first,
    )


def _labels(records: Serialized, features: "tfds.features.FeaturesDict") -> np.ndarray:
    labels: list[int] = []
    for start in range(0, len(records), READ_AT_ONCE):
        stop = min(start + READ_AT_ONCE, len(records))
        for record in records.__getitems__(range(start, stop)):
            (label,) = _decoded(features, record).values()
            labels.append(int(label))
    return np.array(labels, np.int64)


def _decoded(features: "tfds.features.FeaturesDict", record: bytes) -> dict[str, Any]:
    """The example's values for `features` only, images as they are encoded."""
    from tensorflow_datasets import decode

    return features.deserialize_example_np(
        record, decoders={key: decode.SkipDecoding() for key in features}
    )


def _brief(error: Exception) -> str:
    lines = str(error).split("\n")
    return f"{type(error).__name__}: {lines[0][:120]}"
