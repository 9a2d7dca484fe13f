"""Two tiny networks on a few drawn birds: to see that everything works.

Command:  python -m fgvc_jax.train --config configs/tiny.py
Cost:     seconds on two cores.
Expected: any accuracy at all; chance is 25 %.
"""

from fgvc_jax.config import Data, Experiment, Network, Optimizer


def get_config() -> Experiment:
    return Experiment(
        workdir="runs/tiny",
        members=2,
        epochs=2,
        batch_size=8,
        data=Data(source="sketchbirds", resize=36, crop=32, pad=2, classes=4, images_per_class=8),
        network=Network(name="resnet_micro", head_width=16),
        optimizer=Optimizer(learning_rate=0.02, head_learning_rate=0.02),
        log_every=2,
    )
