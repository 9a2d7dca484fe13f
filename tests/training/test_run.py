"""What a run knows of itself."""

import numpy as np
from conftest import tiny

from fgvc_jax.config import Network
from fgvc_jax.training.run import Run

NETWORK = Network(name="vit_micro", head="linear")


def test_a_record_knows_what_the_run_was_made_of():
    run, other = (Run(tiny(network=NETWORK, seed=seed)) for seed in (0, 1))
    known = run.record.digests
    assert known["weights"] is known["trunk"] is known["teacher"] is None
    assert run.record.classes == run.splits.classes and not run.seen_by_teachers
    assert known["train"]["count"] == len(run.splits.train)
    assert run.record.training(1, []) != other.record.training(1, [])
    assert len(run.marks("train")) == len(np.unique(run.marks("train"), axis=0))
