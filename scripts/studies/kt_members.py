"""KT, table 2: N = 1 ... 5 networks, independent or under the orthogonal loss.

Published (CUB-200-2011, ResNet-50, 448 px, %): ensembles of 1 to 5 independent networks 87.2, 87.8,
88.2, 88.3, 88.6; under KT 87.2, 88.5, 88.6, 88.8, 89.1. So the effect is +0.7 at N = 2 and +0.5 at
N = 5. The first members of a pair are the same network: their difference is 0.
"""

from dataclasses import replace

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study

BASE = replace(Experiment(), members=5)


def get_study(base: Experiment = BASE) -> Study:
    numbers = range(1, base.members + 1)
    return Study(
        base=base,
        rows={
            "independent": {"transfer.name": "none"},
            "kt": {"transfer.name": "orthogonal"},
        },
        metrics=(*(f"ensemble_{n}" for n in numbers), *(f"single_{n}" for n in numbers)),
    )
