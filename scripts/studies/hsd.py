"""HSD (a reconstruction), part by part: what its abstract claims.

Hard labels on intermediate stages should lose against the baseline; self-distillation, the entropy
loss (SIE) and the fusion (GDF) should each add; the fusion should lose without its detach. Each row
that starts with + adds to the row before it, but for +hard_labels, which stands alone.
"""

from dataclasses import replace

from fgvc_jax.config import Experiment, Transfer
from fgvc_jax.study import Study

BASE = replace(Experiment(), members=1, transfer=Transfer(name="none"))


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
            "+gdf": hsd,
            "gdf_without_detach": {**hsd, "hsd.detach": False},
        },
        metrics=("ensemble",),
    )
