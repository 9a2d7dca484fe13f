"""What should somebody train who comes with photographs of their own: one network, two, or none?

"one" is the recipe of configs/folder.py with one member, on a frozen EfficientNet-Lite0, but for
the tenth of the photographs that the config sets aside for calibration: "one_set_aside" is without
it. "linear" is solved on the network's embeddings instead, after one pass over the images, and sets
none aside. The photographs are those of scripts/cut_bars.py, three sets of a third of the species
each, in its folders 1, 2 and 3; the study is carried out on each of them.
"""

from dataclasses import replace
from pathlib import Path

from fgvc_jax import config
from fgvc_jax.config import Experiment, differences
from fgvc_jax.study import Study
from fgvc_jax.study.definition import load_study

BASE = replace(
    load_study(str(Path(__file__).with_name("fit.py"))).base,
    epochs=8,
    batch_size=16,
    evaluate_every=8,
)

ONE = {"members": 1, "transfer.name": "none"}
TWO = "independent", "kt"  # members


def get_study(base: Experiment = BASE) -> Study:
    solved = differences(base, config.solved(base, "linear"))
    return Study(
        base=base,
        rows={
            "one": ONE,
            "linear": {each.flag[2:].replace("-", "_"): each.new for each in solved},
            "one_set_aside": {**ONE, "data.validation": 0.1},
            "independent": {**ONE, "members": 2},
            "kt": {"members": 2, "transfer.name": "orthogonal"},
            "student_of_kt": {**ONE, "objective": "kd", "kd.teacher": "row:kt"},
        },
        seeds=4,
        metrics=("ensemble", "single_1"),
        beside=(
            *((row, metric, "one", metric) for row in TWO for metric in ("ensemble", "nll")),
            ("kt", "ensemble", "independent", "ensemble"),
        ),
    )
