"""CSDNet (a reconstruction) on drawn birds: one small network, three images of each species.

Command:  python -m fgvc_jax.train --config configs/csdnet_sketchbirds.py
Cost:     minutes on two cores: the steps of one member of the default experiment, in two views.
Expected: CSDNet is a reconstruction from its abstract, so there is no number to reproduce. Compare
          with --objective ce; scripts/studies/csdnet.py does so part by part.
"""

from dataclasses import replace

from fgvc_jax.config import Experiment, Transfer

IMAGES_PER_CLASS = 3
FEWER = 50 // IMAGES_PER_CLASS  # sketchbirds has 50 training images of each species


def get_config() -> Experiment:
    default = Experiment()
    return replace(
        default,
        workdir="runs/csdnet_sketchbirds",
        members=1,
        objective="csdnet",
        data=replace(default.data, images_per_class=IMAGES_PER_CLASS),
        transfer=Transfer(name="none"),
        # About as many steps and evaluations as with all images.
        epochs=FEWER * default.epochs,
        evaluate_every=FEWER * default.evaluate_every,
        save_every=100,
    )
