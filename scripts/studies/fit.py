"""How should photographs with their own aspects become squares: squashed, cut, or padded?

The photographs are those of scripts/cut_bars.py, which makes three sets of a third of the species
each, in its folders 1, 2 and 3; the study is carried out on each of them. The trunk is frozen, so
that rows differ by what it is shown alone.
"""

from fgvc_jax.config import Data, Experiment, Network, Optimizer, Transfer
from fgvc_jax.study import Study

BASE = Experiment(
    members=1,
    epochs=12,
    batch_size=16,
    data=Data(
        source="folder:data/cub200_2010_cut/1",
        resize=256,
        crop=224,
        pad=0,
        normalize="tensorflow",
        views=2,
        view_seed=1,
    ),
    network=Network(
        name="efficientnet_lite0",
        weights="package:efficientnet_lite0",
        head="linear",
        frozen="stage4",
        frozen_norm=True,
    ),
    transfer=Transfer(name="none"),
    optimizer=Optimizer(
        name="adamw",
        learning_rate=0.00001,
        head_learning_rate=0.003,
        weight_decay=0.01,
        schedule="cosine",
    ),
    evaluate_every=4,
)


def get_study(base: Experiment = BASE) -> Study:
    return Study(
        base=base,
        rows={"squash": {}, "crop": {"data.fit": "crop"}, "pad": {"data.fit": "pad"}},
        seeds=4,
        metrics=("ensemble",),
    )
