"""HSD (a reconstruction), part by part: what its abstract claims.

Hard labels on intermediate stages should lose against the baseline; self-distillation, the entropy
loss (SIE) and the fusion (GDF) should each add; the fusion should lose without its detach. Each row
that starts with + adds to the row before it, but for +hard_labels, which stands alone, and
+sie_hinge, which is the other form of the row before it. One EfficientNet-Lite0, fine-tuned whole,
as dose.py does it.
"""

from dataclasses import replace
from pathlib import Path

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study
from fgvc_jax.study.definition import load_study

BASE = replace(load_study(str(Path(__file__).with_name("dose.py"))).base, members=1)


def get_study(base: Experiment = BASE) -> Study:
    hsd = {"objective": "hsd"}
    no_gdf = {**hsd, "hsd.fusion": False}
    no_sie = {**no_gdf, "hsd.sie_weight": 0.0}
    no_kd = {**no_sie, "hsd.kd_weight": 0.0}
    return Study(
        base=base,
        rows={
            "baseline": {"objective": "ce"},
            "+hard_labels": {**no_kd, "hsd.hard_labels": True},
            "+self_distillation": no_sie,
            "+sie": no_gdf,
            "+sie_hinge": {**no_gdf, "hsd.sie": "hinge"},
            "+gdf": hsd,
            "gdf_without_detach": {**hsd, "hsd.detach": False},
        },
        seeds=4,
        metrics=("ensemble",),
    )
