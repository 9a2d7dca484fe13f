"""CSDNet (a reconstruction) with few images per class: each module off.

DDL is the contrastive loss against the queue, SSDT the self-distillation between the views, SSDP
the augmented view: without it the second view is a mere mirror image. "views_alone" is SSDP as
augmentation, without DDL and SSDT. "hidden_view" also erases a box and shuffles patches, which may
hide the very part that makes the species.

    python scripts/study.py scripts/studies/csdnet.py --config CONFIG \
        --base.data.images-per-class 3 --base.epochs ...

runs it elsewhere: with fewer images, raise the epochs so that the number of steps stays.
"""

from fgvc_jax.config import Experiment, load_config
from fgvc_jax.study import Study

BASE = load_config("csdnet:sketchbirds")


def get_study(base: Experiment = BASE) -> Study:
    no_contrast, no_distillation = {"csdnet.contrast_weight": 0.0}, {"csdnet.distill_weight": 0.0}
    csdnet = {"objective": "csdnet"}
    return Study(
        base=base,
        rows={
            "csdnet": csdnet,
            "without_ssdp": {**csdnet, "csdnet.view": "mirror"},
            "without_ddl": {**csdnet, **no_contrast},
            "without_ssdt": {**csdnet, **no_distillation},
            "views_alone": {**csdnet, **no_contrast, **no_distillation},
            "hidden_view": {**csdnet, "csdnet.erase_area": (0.15, 0.45), "csdnet.shuffle": 2},
            "without_view_labels": {**csdnet, "csdnet.view_weight": 0.0},
            "adaptive_view": {**csdnet, "csdnet.view": "adaptive"},
            "ce": {"objective": "ce"},
        },
        metrics=("ensemble",),
    )
