"""Only what is not kept of members' answers is asked for, and pictures are taken along once."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.inference import answers
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions, remembered, thumbnails
from fgvc_jax.workdir.predictions import Part
from fgvc_jax.workdir.remembered import Nearest

COUNT = 3


class Stand:
    """Stands for a model of three members, whose answers are their numbers."""

    identities = tuple(f"{letter * 40}" for letter in "abc")
    view = SimpleNamespace(test_side=16)

    def __init__(self):
        self.mesh, self.asked = devices.create_mesh(), []

    fusion, numbers, seen = "probabilities", (1, 2, 3), 0.0

    def widths(self):
        return (2, 4, 4)

    def grid(self, number):
        return (2, 2 + number)

    def answers(self, batches, store, members):
        self.asked.append(list(members))
        for batch in batches:
            yield [self._answer(batch, n) for n in members]

    def _answer(self, batch, n):
        rows, width, given = len(batch["row"]), self.widths()[n], np.asarray(batch["row"])
        return {
            "embedding": np.eye(width)[given % width] * (given + 1)[:, None] + self.seen,
            "energy": np.full(rows, -n, np.float32), "max_logit": -given.astype(np.float32),
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


def images(rows):
    """A pass over some images, the devices in another order, with one that is padding."""
    count = len(rows)
    yield {
        "image": jnp.zeros((count + 1, 16, 16, 3), jnp.uint8),
        "row": jnp.asarray([0, *range(count)][::-1]),
        "mask": jnp.asarray([False, *[True] * count][::-1]),
    }


def keep(model, part, test, report=lambda line: None, known=None):
    passes = []

    def begin(rows):
        passes.append(len(rows))
        return images(rows), None

    answers.keep_photographs(model, part, np.arange(COUNT), begin, report, known)
    answers.keep_nearest(model, part, test, begin)
    return passes


@pytest.fixture
def judged(part):
    """Test images that all members name "a", the first and the last wrongly."""
    wrong = Part(
        part.folder, "test", part.names, np.array([1, 0, 1], np.int32), part.ids, part.classes, "t"
    )
    answers.keep_answers(Stand(), wrong, batches, None)
    return wrong


@pytest.fixture
def photographs(part):
    folder = part.folder.with_name("neighbours-01")
    return Part(folder, "neighbours", part.names, part.labels, part.ids, part.classes, "n")


def test_training_photographs_are_kept_once_with_what_each_member_sees(photographs, judged):
    model, lines = Stand(), []
    assert keep(model, photographs, judged, lines.append) == [COUNT, 2]  # and the two errors
    assert len(lines) == 1 and lines[0].startswith("3 training photographs are kept")
    for number, identity in enumerate(model.identities):
        vectors = remembered.embedding(photographs, identity)
        width = model.widths()[number]
        np.testing.assert_array_equal(vectors, np.eye(width)[np.arange(COUNT) % width])
    assert remembered.is_kept(photographs, model.identities)
    assert keep(model, photographs, judged, lines.append) == [] and len(lines) == 1
    later = Stand()
    later.identities = (*model.identities[:2], "d" * 40)
    answers.keep_answers(later, judged, batches, None)
    later.asked.clear()
    keep(later, photographs, judged)
    assert later.asked[0] == [2]


def test_errors_have_the_nearest_photographs_of_all_members(photographs, judged):
    model = Stand()
    keep(model, photographs, judged)
    assert Nearest.read(photographs, model.identities[:1]) is None
    kept = Nearest.read(photographs, model.identities)
    assert kept.is_of(model.identities, judged) and not kept.is_of(model.identities[:1], judged)
    assert sorted(kept.found) == [0, 2]
    # The second error is the second image of its pass, which all members see as photograph 1.
    assert [row for row, _ in kept.found[2]] == [1, 0, 2]
    assert kept.found[2][0][1] == pytest.approx(1)


def test_errors_of_another_fusion_are_added(photographs, judged):
    """Which are other images: they were not looked for where those of one fusion were kept."""
    model = Stand()
    keep(model, photographs, judged)
    whole = Nearest.read(photographs, model.identities)
    Nearest(whole.members, whole.test, {0: whole.found[0]}).write(photographs)
    assert keep(model, photographs, judged) == [1]
    again = Nearest.read(photographs, model.identities)
    assert sorted(again.found) == [0, 2] and again.found[0] == whole.found[0]
    assert keep(model, photographs, judged) == []


def test_what_is_known_of_the_only_member_is_not_asked_for_again(photographs, judged):
    model = Stand()
    model.identities = model.identities[:1]
    known = np.array([[3, 0], [0, 2], [1, 1]], np.float32)
    model.widths = lambda: (2,)
    keep(model, photographs, judged, known=known)
    assert model.asked == [[0]]  # about the errors alone
    vectors = remembered.embedding(photographs, model.identities[0])
    np.testing.assert_allclose(vectors, known / np.linalg.norm(known, axis=1)[:, None], rtol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_one_line_and_nothing_is_kept(photographs, judged, value):
    model = Stand()
    model.seen = value
    with pytest.raises(UserError, match="member 1 sees of 'x' is not finite"):
        keep(model, photographs, judged)
    assert not any(remembered.has(photographs, each) for each in model.identities)


def test_how_strange_images_are_is_kept_beside_the_answers_once_photographs_are(photographs, part):
    model = Stand()
    answers.keep_answers(model, part, batches, None)
    assert not part.has_novelty(model.identities[0])
    keep(model, photographs, part)
    model.asked.clear()
    answers.keep_answers(model, part, batches, None, photographs=photographs)
    answers.keep_answers(model, part, batches, None, photographs=photographs)
    assert model.asked == [[0, 1, 2]]
    energy, largest, distance = part.novelty(model.identities[2]).T
    assert energy.tolist() == [-2] * 3 and largest.tolist() == [0, -1, -2]
    np.testing.assert_allclose(distance, 0, atol=1e-6)  # they are among the photographs


def test_answers_that_are_kept_stay_as_they_were_judged(photographs, part):
    """Another device rounds otherwise: it adds how strange images are, and nothing else."""
    answers.keep_answers(Stand(), part, batches, None)
    before = {path.name: path.read_bytes() for path in part.folder.iterdir()}
    keep(Stand(), photographs, part)
    later = Stand()
    later._answer = lambda batch, n: (
        Stand._answer(later, batch, n)
        | {"log_probabilities": jnp.full((COUNT, 2), -9, jnp.float16)}
    )
    answers.keep_answers(later, part, batches, None, photographs=photographs)
    assert all(part.has_novelty(each) for each in later.identities)
    after = {path.name: path.read_bytes() for path in part.folder.iterdir()}
    assert {name: after[name] for name in before} == before


def test_how_strange_images_are_is_told_anew_by_other_photographs(photographs, part):
    """As once a run has more members, of whom fewer photographs are kept."""
    model = Stand()
    answers.keep_answers(model, part, batches, None)
    keep(model, photographs, part)
    answers.keep_answers(model, part, batches, None, photographs=photographs)
    rows = np.array([0, 2])
    fewer = Part(
        photographs.folder.with_name("neighbours-02"), "neighbours", ("x", "z"),
        photographs.labels[rows], photographs.ids[rows], photographs.classes, "m",
    )  # fmt: skip
    answers.keep_photographs(model, fewer, rows, lambda _: (images(rows), None), lambda line: None)
    assert not photographs.folder.exists()
    answers.keep_answers(model, part, batches, None, photographs=fewer)
    assert part.novelty(model.identities[2])[:, 2].tolist() == pytest.approx([0, 0, 1])
