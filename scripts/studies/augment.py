"""Does it help to show more than the published crop: on photographs, with one fine-tuned network?

All of EfficientNet-Lite0 is trained, since features of a frozen trunk cannot be mixed. "strong" is
taken apart: without the mixing of images, and mixing alone. The photographs are those of
scripts/cut_bars.py, as for fit.py; the study is carried out on each of its three sets.
"""

from dataclasses import replace
from pathlib import Path

from fgvc_jax.config import Data, Experiment
from fgvc_jax.study import Study
from fgvc_jax.study.definition import load_study

FROZEN: Experiment = load_study(str(Path(__file__).with_name("fit.py"))).base
BASE = replace(
    FROZEN,
    data=Data(
        source=FROZEN.data.source, resize=184, crop=160, pad=0, normalize=FROZEN.data.normalize
    ),
    network=replace(FROZEN.network, frozen="", frozen_norm=False),
    optimizer=replace(FROZEN.optimizer, learning_rate=0.0003),
)
UNMIXED = {"data.mixup": 0.0, "data.cutmix": 0.0}


def get_study(base: Experiment = BASE) -> Study:
    return Study(
        base=base,
        rows={
            "published": {},
            "standard": {"data.augment": "standard"},
            "strong": {"data.augment": "strong"},
            "unmixed": {"data.augment": "strong", **UNMIXED},
            "mixed": {"data.mixup": 0.2, "data.cutmix": 1.0},
        },
        seeds=4,
        metrics=("ensemble",),
    )
