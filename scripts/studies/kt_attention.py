"""Do later members look elsewhere? Members trained independently and under the orthogonal loss.

For scripts/attention.py, which adds what the members attend to.
"""

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study

BASE = Experiment()


def get_study(base: Experiment = BASE) -> Study:
    return Study(
        base=base,
        rows={
            "alpha=0": {"transfer.name": "none"},
            "alpha=0.5": {"transfer.name": "orthogonal", "transfer.alpha": 0.5},
        },
    )
