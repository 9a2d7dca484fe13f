"""HSD (a reconstruction) on drawn birds: one small network.

Command:  python -m fgvc_jax.train --config configs/hsd_sketchbirds.py
Cost:     minutes on two cores, little more than ce_sketchbirds.
Expected: HSD is a reconstruction from its abstract, so there is no number to reproduce. Compare
          with ce_sketchbirds; scripts/studies/hsd.py does so part by part.
"""

from dataclasses import replace

from fgvc_jax.config import Experiment, Transfer


def get_config() -> Experiment:
    return replace(
        Experiment(),
        workdir="runs/hsd_sketchbirds",
        members=1,
        objective="hsd",
        transfer=Transfer(name="none"),
    )
