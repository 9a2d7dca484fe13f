"""Does a second network under KT's orthogonal loss make a better ensemble of two than an
independent one, on 200 species?

Published: +0.7 points (one seed, the epoch that is best on the test set). All rows show the same
two views of an image to both members, so that the loss alone differs, and share the first member.
The trunk is frozen through stage4 and a view is the same for all seeds, so that what it says of an
image is computed once. See PLAN.md for seeds, stopping and verdicts.
"""

from fgvc_jax.config import Data, Experiment, Network, Optimizer, Transfer, load_config
from fgvc_jax.study import Study

BASE = Experiment(
    members=2,
    epochs=4,
    evaluate_every=2,
    batch_size=32,
    data=Data(
        source="cub:data/cub200_2010",
        resize=176,
        crop=160,
        pad=0,
        normalize="imagenet",
        views=2,
        view_sharing="shared",
        view_seed=1,
    ),
    network=Network(
        name="resnet50_v1",
        weights="data/resnet50_v1_in1k.safetensors",
        head="linear",
        frozen="stage4",
    ),
    transfer=Transfer(name="none"),
    optimizer=Optimizer(learning_rate=0.002, head_learning_rate=0.02, schedule="cosine"),
)


def get_study(base: Experiment = BASE) -> Study:
    def orthogonal(alpha: float, weighting: str) -> dict[str, object]:
        return {
            "transfer.name": "orthogonal",
            "transfer.alpha": alpha,
            "transfer.weighting": weighting,
        }

    return Study(
        base=base,
        rows={
            "independent": {"transfer.name": "none"},
            "fixed_0.5": orthogonal(0.5, "fixed"),
            "fixed_0.1": orthogonal(0.1, "fixed"),
            "ratio_0.5": orthogonal(0.5, "ratio"),
        },
        seeds=8,
        metrics=("ensemble", "single_1", "single_2", "published"),
        recipe=load_config("kt:cub,resnet50"),
        gain=0.007,
    )
