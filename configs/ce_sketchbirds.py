"""One small network on drawn birds with plain cross entropy: the baseline of the others.

Command:  python -m fgvc_jax.train --config configs/ce_sketchbirds.py
Cost:     minutes on two cores: a third of the default experiment, whose network and optimizer it
          has.
Expected: well above chance (4 %); see the README for what the default experiment reaches.
"""

from dataclasses import replace

from fgvc_jax.config import Experiment, Transfer


def get_config() -> Experiment:
    return replace(
        Experiment(),
        workdir="runs/ce_sketchbirds",
        members=1,
        objective="ce",
        transfer=Transfer(name="none"),
    )
