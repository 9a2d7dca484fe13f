"""What should somebody train who comes with photographs of their own: one network, two, or none?

"one" is the recipe of configs/folder.py with one member, on a frozen EfficientNet-Lite0; "linear"
is solved on its embeddings instead, after one pass over the images. The photographs are those of
scripts/cut_bars.py, three sets of a third of the species each, in its folders 1, 2 and 3; the study
is carried out on each of them.
"""

from dataclasses import replace
from pathlib import Path

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study
from fgvc_jax.study.definition import load

BASE = replace(
    load(str(Path(__file__).with_name("fit.py"))).base, epochs=8, batch_size=16, evaluate_every=8
)
# As `config.solved` leaves them: what steps have is refused.
SOLVED = {
    "objective": "linear",
    "members": 1,
    "transfer.name": "none",
    "epochs": 1,
    "network.head": "linear",
    "network.frozen": "",
    "network.frozen_norm": False,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.07,
    "optimizer.head_learning_rate": 0.07,
    "optimizer.weight_decay": 5e-4,
    "optimizer.schedule": "cosine_epoch",
}


def get_study(base: Experiment = BASE) -> Study:
    return Study(
        base=base,
        rows={
            "one": {},
            "linear": SOLVED,
            "independent": {"members": 2},
            "kt": {"members": 2, "transfer.name": "orthogonal"},
            "student_of_kt": {"objective": "kd", "kd.teacher": "row:kt"},
        },
        seeds=4,
        metrics=("ensemble", "single_1"),
    )
