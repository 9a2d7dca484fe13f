"""Does it cost diversity that all members of an independent ensemble see the same views?

Sharing views is what makes precomputed attention maps possible, and what effect.py does in all rows
so that the loss alone differs. Own views are what an independent ensemble usually has. Its first
row is effect.py's: on the same workdir it is not trained again.
"""

from pathlib import Path

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study
from fgvc_jax.study.definition import load_study

BASE = load_study(str(Path(__file__).with_name("effect.py"))).base


def get_study(base: Experiment = BASE) -> Study:
    return Study(
        base=base,
        rows={
            "independent": {"transfer.name": "none"},
            "own_views": {"transfer.name": "none", "data.view_sharing": "own"},
        },
        seeds=8,
        metrics=("ensemble", "single_1", "single_2"),
    )
