"""Three independent small networks on drawn birds: the ensemble that KT has to beat.

Command:  python -m fgvc_jax.train --config configs/independent_sketchbirds.py
Cost:     minutes on two cores: the default experiment without its teachers.
Expected: an ensemble at least as good as its best member. The attention of the members overlaps
          more than in kt_sketchbirds.
"""

from dataclasses import replace

from fgvc_jax.config import Experiment, Transfer


def get_config() -> Experiment:
    return replace(
        Experiment(),
        workdir="runs/independent_sketchbirds",
        members=3,
        objective="ce",
        transfer=Transfer(name="none"),
    )
