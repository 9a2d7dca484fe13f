"""What tests of a run in a notebook share: a finished run without a folder."""

from types import SimpleNamespace

import numpy as np
from pages import HOSTILE


class Fused:
    """What is said of each image: the class of `said`."""

    def __init__(self, part, said):
        self.part, self._said = part, said

    def __iter__(self):
        each = np.full((len(self._said), len(self.part.classes)), 0.01, np.float32)
        each[np.arange(len(self._said)), self._said] = 0.9
        yield slice(0, len(self._said)), np.log(each)


EPOCHS = [{"epoch": 1, "loss": 2.0, "test_accuracy": 0.25}, {"epoch": 2, "loss": 1.0}]


def run_of(labels, said, classes, text=HOSTILE):
    """A finished run of two members, from its answers, whose other texts are this one."""
    part = SimpleNamespace(labels=np.array(labels), classes=classes)
    right = np.mean(part.labels == said)
    accuracy = {"accuracy": {"value": right, "low": right - 0.1, "high": right + 0.1}}
    return SimpleNamespace(
        workdir=SimpleNamespace(address=text), identities=("a", "b"), numbers=(1, 2),
        which="final", part=part, results={"source": text, "images": {"test": len(labels)}},
        learning=[EPOCHS, []],
        learning_curve=None,
        judged={"metrics": {"ensemble": [accuracy] * 2, "members": [accuracy] * 2}},
        fused=lambda: Fused(part, np.array(said)),
    )  # fmt: skip
