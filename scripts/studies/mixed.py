"""Do three different networks, trained from scratch, answer together better than three equal ones?

Three small families (ResNet, ViT, Swin; maps of 6 x 6 and 3 x 3) on drawn birds, independent and
under the orthogonal loss, which resizes a teacher's attention to the student's grid. Their weights
are random at the start, which is no evidence for pretrained ones. See PLAN.md.
"""

from fgvc_jax.config import Data, Experiment, Network, Optimizer
from fgvc_jax.study import Study

RESNET = Network(name="resnet_micro", head="linear")
NETWORKS = (
    RESNET,
    Network(name="vit_micro", head="linear"),
    Network(name="swin_micro", head="linear"),
)
BASE = Experiment(
    epochs=16,
    data=Data(resize=52, crop=48, pad=4, classes=8, view_sharing="shared"),
    network=RESNET,
    optimizer=Optimizer(name="adamw", learning_rate=0.004, head_learning_rate=0.004),
    evaluate_every=4,
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
    )
