"""The experiments that benchmarks run, ours and those of torch_kt.py."""

import dataclasses
from pathlib import Path
from typing import Any

from benchmarks.common import Common, Sourced

LEARNING_RATES = {"learning_rate": 0.001, "head_learning_rate": 0.01}


def experiment(
    spec: Common,
    *,
    transfer: str = "orthogonal",
    maps: str = "precomputed",
    views: int = 0,
    members: int = 1,
    epochs: int = 1,
    placement: str = "auto",
    cache: str = "",
    objective: str = "ce",
    head: str = "kt",
    decode: str = "auto",
    augment: str = "published",
    lora_rank: int = 0,
) -> dict[str, Any]:
    """The Experiment of a row, as a dictionary for the other process."""
    from fgvc_jax import config

    data = config.Data(
        crop=spec.crop,
        resize=spec.resize,
        pad=0,
        placement=placement,
        cache=cache,
        classes=20,
        views=views,
        decode=decode,
        augment=augment,
    )
    if isinstance(spec, Sourced):
        data = dataclasses.replace(
            data, source=spec.source, classes=spec.classes, images_per_class=spec.images_per_class
        )
    chosen = config.Experiment(
        members=members,
        epochs=epochs,
        batch_size=spec.batch_size,
        data=data,
        network=config.Network(name=spec.network, dtype=spec.dtype, head=head, lora_rank=lora_rank),
        objective=objective,
        transfer=config.Transfer(name=transfer, maps=maps),
        optimizer=config.Optimizer(**LEARNING_RATES),
        evaluate_every=epochs,
    )
    return config.to_dict(config.check(chosen))


def torch_options(spec: Common, dtype: str) -> dict[str, Any]:
    """The same for torch_kt.py."""
    chosen = experiment(spec)
    data = ("crop", "resize", "pad", "flip", "normalize")
    return {
        "network": spec.network,
        "classes": chosen["data"]["classes"],
        "head_width": chosen["network"]["head_width"],
        "dtype": dtype,
        "alpha": chosen["transfer"]["alpha"],
        **{name: chosen["data"][name] for name in data},
        **{name: chosen[name] for name in ("batch_size", "evaluation_batch_size")},
        **{name: chosen["optimizer"][name] for name in ("momentum", "weight_decay")},
        **LEARNING_RATES,
    }


def write_images(spec: Sourced, folder: Path) -> None:
    """The training and test images of a source as files INDEX_LABEL, encoded as they were."""
    from PIL import Image

    from fgvc_jax.data import sources

    splits = sources.restrict(
        sources.open_source(spec.source), classes=spec.classes,
        images_per_class=spec.images_per_class, validation=0.0, seed=0,
    )  # fmt: skip
    for name, part in (("train", splits.train), ("test", splits.test)):
        (folder / name).mkdir()
        for index in range(len(part)):
            record = part[index]
            path = folder / name / f"{index:06d}_{record['label']}"
            if isinstance(record["image"], bytes):
                path.write_bytes(record["image"])
            else:
                Image.fromarray(record["image"]).save(path, format="png")
