"""KT on drawn birds: three small networks under the orthogonal loss, the default experiment.

Command:  python -m fgvc_jax.train --config configs/kt_sketchbirds.py
Cost:     minutes on two cores.
Expected: an ensemble at least as good as its best member. The attention of the members overlaps
          less than in independent_sketchbirds.
"""

from dataclasses import replace

from fgvc_jax.config import Experiment, Transfer


def get_config() -> Experiment:
    return replace(
        Experiment(),
        workdir="runs/kt_sketchbirds",
        members=3,
        objective="ce",
        transfer=Transfer(name="orthogonal", alpha=0.5, weighting="fixed"),
    )
