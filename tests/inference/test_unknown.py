"""Images of other classes are judged by what is kept of the test images."""

from types import SimpleNamespace

import numpy as np
import pytest

from fgvc_jax.evaluation.novelty import Novelty
from fgvc_jax.inference import unknown
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir.predictions import Part

NAMES = [f"{n}.png" for n in range(4)]


class Stand:
    """Two members; the score of image i is i to one of them, and 0 to the other."""

    identities, numbers, members = ("a" * 40, "b" * 40), (1, 2), ("first", "second")

    def __init__(self, known):
        self.known = known

    @property
    def novelty(self):
        if self.known is None:
            raise UserError("no validation part")
        return Novelty("max_logit", self.known, "validation images", {})

    @property
    def alone(self):
        return [SimpleNamespace(novelty=lambda seen: np.stack([seen["energy"]] * 3, -1))] * 2

    def answers(self, batches, store):
        rows = np.array([3, 2, 0, 1, 0])
        mask = np.array([True, True, True, True, False])
        yield [
            {"row": rows, "mask": mask, "energy": scale * rows, "max_logit": rows,
             "embedding": np.ones((5, 2))}
            for scale in (1.0, 0.0)
        ]  # fmt: skip


@pytest.fixture
def test(tmp_path, monkeypatch):
    numbers = np.arange(3, dtype=np.int32)
    part = Part(tmp_path / "p" / "test-1", "test", ("x",) * 3, numbers, numbers, ("a",), "d")
    monkeypatch.setattr(Part, "has_novelty", lambda self, member: True)
    monkeypatch.setattr(Part, "novelty", lambda self, member: np.full((3, 3), 0.75))
    return part


def test_they_are_told_by_the_mean_of_the_members(test):
    found = unknown.told_apart(Stand(np.linspace(0, 1, 40)), test, [None], NAMES)
    assert found["images"] == {"known": 3, "unknown": 4} and found["score"] == "max_logit"
    assert found["scores"]["energy"]["auroc"]["value"] == 0.5  # 0, 0.5 | 1, 1.5
    assert found["at"]["found"]["value"] == 0.5 and found["at"]["alarms"]["value"] == 0
    assert "as fixed before" in found["about"]


def test_few_known_images_or_none_give_no_threshold(test):
    assert unknown.told_apart(Stand(np.zeros(5)), test, [None], NAMES)["at"] is None
    found = unknown.told_apart(Stand(None), test, [None], NAMES)
    assert found["at"] is None and found["about"] == "no validation part"


def test_what_is_not_kept_is_one_line(test, monkeypatch):
    monkeypatch.setattr(Part, "has_novelty", lambda self, member: False)
    with pytest.raises(UserError, match="does not keep how strange its test images are"):
        unknown.told_apart(Stand(None), test, [None], NAMES)
