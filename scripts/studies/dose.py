"""Does moving attention apart pay where every parameter learns, and at which dose?

effect.py asks it behind a frozen trunk, where independent networks of one start hardly differ. Here
two EfficientNet-Lite0 are fine-tuned whole, so that diversity has something to give. The rows are
doses of the orthogonal loss; one below zero rewards responses where |Z| of the first network is
large, on what it looks at and on background alike. Published: +0.7 points (one seed, ResNet-50, the
epoch that is best on the test set). All rows show both members the same views and share the first
member, so that the loss alone differs. See PLAN.md.
"""

from fgvc_jax.config import Data, Experiment, Network, Optimizer, Transfer, load_config
from fgvc_jax.study import Study

BASE = Experiment(
    members=2,
    epochs=6,
    evaluate_every=6,
    batch_size=32,
    data=Data(
        source="cub:data/cub200_2010",
        resize=176,
        crop=160,
        pad=0,
        normalize="tensorflow",
        views=8,
        view_sharing="shared",
    ),
    network=Network(name="efficientnet_lite0", weights="package:efficientnet_lite0", head="linear"),
    transfer=Transfer(name="none"),
    optimizer=Optimizer(
        learning_rate=0.01, head_learning_rate=0.1, schedule="cosine", warmup_steps=50
    ),
)


def get_study(base: Experiment = BASE) -> Study:
    def row(
        alpha: float = 0.0, weighting: str = "fixed", head: str = "linear"
    ) -> dict[str, object]:
        if not alpha:
            return {"transfer.name": "none", "network.head": head}
        return {
            "transfer.name": "orthogonal",
            "transfer.alpha": alpha,
            "transfer.weighting": weighting,
            "network.head": head,
        }

    return Study(
        base=base,
        rows={
            "independent": row(),
            "alpha_0.5": row(0.5),
            "alpha_0.1": row(0.1),
            "alpha_-0.1": row(-0.1),
            "alpha_-0.5": row(-0.5),
            "ratio_0.5": row(0.5, weighting="ratio"),
            "kt_head": row(head="kt"),
            "kt_head_0.5": row(0.5, head="kt"),
        },
        seeds=8,
        metrics=("ensemble", "single_1", "single_2", "published"),
        recipe=load_config("kt:cub,resnet50"),
        gain=0.007,
        beside=(("kt_head_0.5", "ensemble", "kt_head", "ensemble"),),
    )
