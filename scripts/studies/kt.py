"""KT's tables 2 and 3: N networks, independent or under the orthogonal loss, and its weight alpha.

All rows are compared with independent networks, which is alpha 0; "kt" has the published 0.5. The
rows of other weights have two networks, as in the publication. The first network of a seed is the
same in all rows and trained once. scripts/reproduce.py puts the published tables beside this one.
"""

from dataclasses import replace

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study

BASE = replace(Experiment(), members=5)
PUBLISHED_ALPHA = 0.5
OTHER_ALPHAS = 0.05, 0.1, 1.0, 5.0


def get_study(base: Experiment = BASE) -> Study:
    def orthogonal(alpha: float) -> dict[str, object]:
        return {"transfer.name": "orthogonal", "transfer.alpha": alpha}

    numbers = range(1, base.members + 1)
    return Study(
        base=base,
        rows={
            "independent": {"transfer.name": "none"},
            "kt": orthogonal(PUBLISHED_ALPHA),
            **{f"alpha={alpha:g}": {**orthogonal(alpha), "members": 2} for alpha in OTHER_ALPHAS},
        },
        seeds=3,
        metrics=(*(f"ensemble_{n}" for n in numbers), *(f"single_{n}" for n in numbers)),
    )
