"""KT, table 3: the weight alpha of the orthogonal loss, with two networks.

Published (CUB-200-2011, ResNet-50, 448 px, %), ensemble of two: alpha 0: 87.2, 0.05: 87.7,
0.1: 87.9, 0.5: 88.5, 1: 88.2, 5: 87.2.
"""

from dataclasses import replace

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study

BASE = replace(Experiment(), members=2)


def get_study(base: Experiment = BASE) -> Study:
    weights = 0.05, 0.1, 0.5, 1.0, 5.0
    orthogonal = {
        f"alpha={alpha:g}": {"transfer.name": "orthogonal", "transfer.alpha": alpha}
        for alpha in weights
    }
    return Study(
        base=base,
        rows={"alpha=0": {"transfer.name": "none"}, **orthogonal},
        metrics=("ensemble", "single_1", "single_2"),
    )
