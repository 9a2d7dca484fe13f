"""Networks that nobody trained, for the tests of exports."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
from conftest import tiny

from fgvc_jax.inference import architecture
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.inference.model import Model
from fgvc_jax.objectives import KNN
from fgvc_jax.utils import devices

CLASSES = ("plain", "a\nline", "back\\slash", "d\u202eright", "<script>", "lone \udc80")


def trained(*, members=2, fusion="probabilities", objective="ce", view=None, **network) -> Trained:
    """Members of the tiny experiment with changes, their variables drawn at random."""
    spec = tiny(members=members, fusion=fusion, objective=objective, knn=KNN(5, voters=9))
    spec = dataclasses.replace(
        spec,
        network=architecture.settle(dataclasses.replace(spec.network, **network)),
        data=dataclasses.replace(spec.data, **(view or {})),
    )
    mesh = devices.create_mesh()
    plan = architecture.architectures(spec, len(CLASSES), mesh)[0]
    trunk, found = {}, []
    for seed in range(members):
        random = np.random.default_rng(seed)
        whole = jax.tree_util.tree_map_with_path(
            lambda place, leaf, random=random: _drawn(place[-1].key, leaf.shape, random), plan.whole
        )
        shared, own = plan.split(whole)
        trunk = trunk or shared  # of the first, as in a run
        found.append(plan.member(own, trunk))
    opened = Model(
        classes=CLASSES,
        view=spec.data.view,
        members=found,
        identities=[f"member {n}" for n in range(members)],
        logits_of=plan.objective.predict,
        fusion=fusion,
        mesh=mesh,
        trunk={} if plan.network.adapted else trunk,
    )
    return Trained(opened, spec, {}, "final")


def _drawn(name: str, shape: tuple[int, ...], random: np.random.Generator) -> jax.Array:
    """A variable: those that are 1 or 0 at the start near that, others as wide as keeps signals."""
    width = 0.1 if len(shape) == 1 else np.prod(shape[:-1]) ** -0.5
    start = 1.0 if name in ("var", "scale") else 0.0
    values = start + width * random.uniform(-1.7, 1.7, shape)
    return jnp.asarray(values, jnp.float32)


def images(of: Trained, count: int) -> np.ndarray:
    """(B, R, R, 3) uint8, of noise."""
    shape = count, *of.inference.shape
    return np.random.default_rng(count).integers(0, 256, shape, np.uint8)


def selftest(folder) -> str:
    """What selftest.py of an export prints."""
    done = subprocess.run(
        [sys.executable, folder / "selftest.py"], capture_output=True, text=True, check=True
    )
    return done.stdout


VARIANTS = {
    "resnet": {},
    "logits": {"fusion": "logits"},
    "vit": {"name": "vit_micro", "head": "linear"},
    "dinov2": {"name": "dinov2_micro", "head": "linear"},
    "dinov3": {"name": "dinov3_micro", "head": "linear"},
    "convnext": {"name": "convnext_micro", "head": "linear"},
    "swin": {"name": "swin_micro", "head": "linear"},
    "efficientnet": {"name": "efficientnet_micro", "head": "linear"},
    "trunk": {"frozen": "stage3"},
    "hsd": {"objective": "hsd"},
    "knn": {"objective": "knn", "members": 1},
}
