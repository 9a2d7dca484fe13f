"""An event's answer is the mean of its photographs', in whatever order and batches they come."""

from types import SimpleNamespace

import numpy as np
import pytest

from fgvc_jax.data.inputs import InputFile
from fgvc_jax.inference import events
from fgvc_jax.inference.events import Events
from fgvc_jax.utils.errors import UserError

RANDOM = np.random.default_rng(0)
PROBABILITIES = RANDOM.dirichlet([0.5] * 4, size=200).astype(np.float32)
NAMES = [f"e{n % 90}" for n in range(200)]  # more events than there is room for at first


class Stand:
    classes = ("a", "b", "c", "d")
    calibration = None

    def fused(self, answers, *, calibrated):
        assert calibrated
        return np.log(answers[0]["p"])


@pytest.fixture
def found(monkeypatch):
    monkeypatch.setattr(events, "sure_from", lambda asked, risk: 0.6)
    return Events(Stand(), top=2, risk=0.05)


def answered(rows):
    files = [InputFile(f"{row}.jpg", event=NAMES[row]) for row in rows]
    problems = ["cannot be read" if row in (0, 5, 95, 185) else "" for row in rows]
    return SimpleNamespace(files=files, problems=problems, answers=[{"p": PROBABILITIES[rows]}])


@pytest.mark.parametrize("size", [1, 64, 200])
def test_it_is_the_mean_of_what_could_be_read(found, size):
    for start in range(0, 200, size):
        found.add(answered(np.arange(start, min(start + size, 200))))
    rows = {row["event"]: row for row in found.rows()}
    assert list(rows) == list(dict.fromkeys(NAMES)) and len(rows) == 90
    row, mine = rows["e3"], PROBABILITIES[[3, 93, 183]]
    mean = mine.mean(0)
    best = np.argsort(-mean)[:2]
    assert [row["class1"], row["class2"]] == ["abcd"[c] for c in best]
    assert row["probability1"] == pytest.approx(mean[best[0]], rel=1e-5)
    assert row["agreement"] == (mine.argmax(1) == best[0]).mean() and row["images"] == 3
    assert row["unsure"] == (mean[best[0]] < 0.6) and row["error"] is None
    assert rows["e0"]["images"] == 2 and rows["e0"]["error"] == "1 could not be read"
    lost = rows["e5"]
    assert lost["images"] == 0 and lost["class1"] is None and lost["unsure"] is None


def test_without_a_calibration_it_is_one_line():
    class Raw(Stand):
        @property
        def calibration(self):
            raise UserError("has no validation part")

    with pytest.raises(UserError, match="has no validation part"):
        Events(Raw(), top=1, risk=0.05)
