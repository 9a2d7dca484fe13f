"""KT on twenty species at 160 px: a first run on real photographs, without a GPU.

Command:  python -m fgvc_jax.train --config kt_quick \
              --data.source cub:CUB_200_2010 --network.weights resnet50_v1_in1k.safetensors
Cost:     about 25 s an epoch and member on two cores.
Expected: single networks about 79 %, the two together a few points above (280 test images, so one
          image is 0.36 points). The paper's recipe at a fraction of its resolution and epochs; with
          so few steps `--network.head linear` does better (88.9 % alone at 224 px).
"""

from fgvc_jax.config import Data, Experiment, Network, Optimizer, Transfer


def get_config() -> Experiment:
    return Experiment(
        workdir="runs/kt_quick",
        members=2,
        epochs=15,
        batch_size=32,
        data=Data(
            source="cub:CUB_200_2010", resize=176, crop=160, pad=0, normalize="imagenet", classes=20
        ),
        network=Network(name="resnet50_v1"),
        transfer=Transfer(name="orthogonal", alpha=0.5),
        optimizer=Optimizer(learning_rate=0.001, head_learning_rate=0.01),
    )
