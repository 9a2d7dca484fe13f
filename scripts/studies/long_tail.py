"""What helps classes of few images: more of them in an epoch, more weight, or adjusted logits?

200 species of which the largest has ten times the training images of the smallest
(scripts/cut_tail.py), tested on all alike, so that accuracy is nearly the mean over classes. The
trunk is frozen, as for fit.py.
"""

from dataclasses import replace
from pathlib import Path

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study
from fgvc_jax.study.definition import load_study

FROZEN: Experiment = load_study(str(Path(__file__).with_name("fit.py"))).base
BASE = replace(FROZEN, data=replace(FROZEN.data, source="folder:data/tail"))


def get_study(base: Experiment = BASE) -> Study:
    return Study(
        base=base,
        rows={
            "none": {},
            "sqrt": {"data.balance": "sqrt"},
            "equal": {"data.balance": "equal"},
            "balanced": {"ce.class_weights": "balanced"},
            "effective": {"ce.class_weights": "effective"},
            "adjusted": {"ce.logit_adjustment": 1.0},
        },
        seeds=4,
        metrics=("ensemble",),
    )
