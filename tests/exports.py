"""Networks that nobody trained, for the tests of exports."""

import dataclasses
import subprocess
import sys

import jax
import numpy as np
from conftest import tiny

from fgvc_jax import model
from fgvc_jax.engine import mesh as devices
from fgvc_jax.formats.trained import Trained
from fgvc_jax.model import Member, Model

CLASSES = ("plain", "a\nline", "back\\slash", "d\u202eright", "<script>", "lone \udc80")


def trained(*, members=2, fusion="probabilities", objective="ce", view=None, **network) -> Trained:
    """Members of the tiny experiment with changes, whose running statistics are no start's."""
    spec = tiny(members=members, fusion=fusion, objective=objective)
    spec = dataclasses.replace(
        spec,
        network=model.settle(dataclasses.replace(spec.network, **network)),
        data=dataclasses.replace(spec.data, **(view or {})),
    )
    mesh = devices.create()
    plan = model.architecture(spec, len(CLASSES), mesh)
    trunk, found = {}, []
    for seed in range(members):
        whole = plan.initialize(jax.random.key(seed))
        random = np.random.default_rng(seed)
        whole["batch_stats"] = jax.tree.map(
            lambda x, random=random: x + random.uniform(0, 0.2, x.shape).astype(np.float32),
            whole["batch_stats"],
        )
        shared, own = plan.split(whole)
        trunk = trunk or shared  # of the first, as in a run
        found.append(Member(plan.network, own))
    opened = Model(
        classes=CLASSES,
        view=spec.data.view,
        members=found,
        identities=[f"member {n}" for n in range(members)],
        predict=plan.objective.predict,
        fusion=fusion,
        mesh=mesh,
        trunk=trunk,
    )
    return Trained(opened, spec, {}, "final")


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
