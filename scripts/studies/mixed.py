"""Do three different networks, trained from scratch, answer together better than three equal ones?

Three small families (ResNet, ViT, Swin; maps of 6 x 6 and 3 x 3) on drawn birds, independent and
under the orthogonal loss, which resizes a teacher's attention to the student's grid. Their weights
are random at the start, which is no evidence for pretrained ones. See PLAN.md.

All have KT's head: in front of an average pool the Swin transformer, four channels wide where it
begins, stays at chance; in front of the maximum and batch norm of that head it learns.
"""

from fgvc_jax.config import Data, Experiment, Network, Optimizer
from fgvc_jax.study import Study

NETWORKS = tuple(
    Network(name=name, head="kt", head_width=64)
    for name in ("resnet_micro", "vit_micro", "swin_micro")
)
BASE = Experiment(
    epochs=64,
    data=Data(resize=52, crop=48, pad=4, classes=8, view_sharing="shared"),
    network=NETWORKS[0],
    optimizer=Optimizer(
        name="adamw",
        learning_rate=0.004,
        head_learning_rate=0.004,
        schedule="cosine",
        warmup_steps=50,
    ),
    evaluate_every=16,
)


def get_study(base: Experiment = BASE) -> Study:
    equal = {"members": 3, "transfer.name": "none"}
    different = {**equal, "network": Network(), "networks": NETWORKS}
    return Study(
        base=base,
        rows={
            "equal": equal,
            "different": different,
            "different_kt": {**different, "transfer.name": "orthogonal"},
        },
        metrics=("ensemble", "single", "single_1", "single_2", "single_3"),
        beside=(("different_kt", "ensemble", "different", "ensemble"),),
    )
