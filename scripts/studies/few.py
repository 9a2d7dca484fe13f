"""What does each part of CSDNet (a reconstruction) add on 200 species with three images of each?

SSDP is the augmented view: without it the second view is a mere mirror image. DDL is the
contrastive loss against the queue, SSDT the self-distillation between the views. "ce" has none of
them; "two_queues" keeps the raw features too, as version 2's plural may mean. The trunk is frozen
through stage4; every row has the same number of steps. See PLAN.md for seeds, stopping and
verdicts.
"""

from fgvc_jax.config import Data, Experiment, Network, Optimizer, Transfer, load_config
from fgvc_jax.study import Study

BASE = Experiment(
    members=1,
    epochs=12,
    batch_size=32,
    data=Data(
        source="cub:data/cub200_2010",
        resize=176,
        crop=160,
        pad=0,
        normalize="imagenet",
        images_per_class=3,
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
    evaluate_every=4,
)


def get_study(base: Experiment = BASE) -> Study:
    csdnet = {"objective": "csdnet"}
    no_contrast, no_distillation = {"csdnet.contrast_weight": 0.0}, {"csdnet.distill_weight": 0.0}
    return Study(
        base=base,
        rows={
            "csdnet": csdnet,
            "without_ssdp": {**csdnet, "csdnet.view": "mirror"},
            "without_ddl": {**csdnet, **no_contrast},
            "without_ssdt": {**csdnet, **no_distillation},
            "ce": {"objective": "ce"},
            "two_queues": {**csdnet, "csdnet.queues": "both"},
        },
        seeds=8,
        metrics=("ensemble",),
        recipe=load_config("csdnet:cub,vit_b16"),
    )
