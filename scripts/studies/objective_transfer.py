"""Every objective with every transfer: ensembles of three.

Nobody has published HSD or CSDNet members under the orthogonal loss.
"""

from dataclasses import replace

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study

BASE = replace(Experiment(), members=3)


def get_study(base: Experiment = BASE) -> Study:
    return Study(
        base=base,
        rows={
            f"{objective}_{transfer}": {"objective": objective, "transfer.name": transfer}
            for objective in ("ce", "hsd", "csdnet")
            for transfer in ("none", "orthogonal")
        },
    )
