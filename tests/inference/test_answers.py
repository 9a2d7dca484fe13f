"""Only what is not kept of members' answers is asked for, and pictures are taken along once."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.inference import answers
from fgvc_jax.utils import devices
from fgvc_jax.workdir import predictions, thumbnails
from fgvc_jax.workdir.predictions import Part

COUNT = 3


class Stand:
    """Stands for a model of three members, whose answers are their numbers."""

    identities = tuple(f"{letter * 40}" for letter in "abc")
    view = SimpleNamespace(test_side=16)

    def __init__(self):
        self.mesh, self.asked = devices.create(), []

    def grid(self, number):
        return (2, 2 + number)

    def answers(self, batches, store, members):
        self.asked.append(list(members))
        for batch in batches:
            yield [self._answer(batch, n) for n in members]

    def _answer(self, batch, n):
        rows = len(batch["row"])
        return {
            "log_probabilities": jnp.full((rows, 2), -n, jnp.float16),
            "attention": jnp.full((rows, *self.grid(n)), n, jnp.float16),
            "correct": {"prediction": jnp.int32(0)}, "finite": jnp.array(True),
            "row": batch["row"], "mask": batch["mask"],
        }  # fmt: skip


def batches():
    yield {
        "image": jnp.zeros((COUNT, 16, 16, 3), jnp.uint8),
        "row": jnp.arange(COUNT), "mask": jnp.ones(COUNT, bool),
    }  # fmt: skip


@pytest.fixture
def part(tmp_path):
    numbers = np.arange(COUNT, dtype=np.int32)
    return Part(
        tmp_path / "test-01", "test", ("x", "y", "z"), 0 * numbers, numbers, ("a", "b"), "d"
    )


def test_what_is_kept_is_not_asked_for_again(part):
    model = Stand()
    first = Stand()
    first.identities = model.identities[1:2]
    answers.keep_answers(first, part, batches, None)
    answers.keep_answers(model, part, batches, None)
    answers.keep_answers(model, part, batches, None)
    assert first.asked == [[0]] and model.asked == [[0, 2]]
    kept = predictions.read(part.folder)
    assert kept.log_probabilities(model.identities[2]).tolist() == [[-2.0, -2.0]] * COUNT
    assert kept.attention(model.identities[2]).shape == (COUNT, 2, 4)


def test_thumbnails_of_test_images_are_made_in_the_first_pass_alone(part, monkeypatch):
    answers.keep_answers(Stand(), part, batches, None)
    path = thumbnails.path(part.folder)
    assert len(thumbnails.Thumbnails(part.folder, COUNT)) == COUNT
    made = path.stat().st_mtime_ns
    later = Stand()
    later.identities = ("d" * 40,)
    answers.keep_answers(later, part, batches, None)
    assert later.asked == [[0]] and path.stat().st_mtime_ns == made


def test_pictures_come_from_a_pass_of_their_own_where_batches_have_features(part):
    def features():
        for batch in batches():
            yield {name: batch[name] for name in ("row", "mask")}

    answers.keep_answers(Stand(), part, features, None, pictures=batches)
    assert len(thumbnails.Thumbnails(part.folder, COUNT)) == COUNT
