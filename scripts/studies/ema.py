"""Does a moving average of the weights (`--optimizer.ema`) answer better than the last ones?

The photographs, the frozen trunk and the length are those of fit.py: 756 steps, of which an average
with 0.99 remembers the last hundred, and one with 0.999 nearly all.
"""

from pathlib import Path

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study
from fgvc_jax.study.definition import load_study

BASE: Experiment = load_study(str(Path(__file__).with_name("fit.py"))).base


def get_study(base: Experiment = BASE) -> Study:
    return Study(
        base=base,
        rows={
            "last": {},
            "ema_0.99": {"optimizer.ema": 0.99},
            "ema_0.999": {"optimizer.ema": 0.999},
        },
        seeds=4,
        metrics=("ensemble",),
    )
