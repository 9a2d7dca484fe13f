import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax import ensemble, transfer
from fgvc_jax.evaluation import tallies


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)


def test_fused_probabilities_are_the_mean_of_the_softmax(logits):
    wide = np.exp(logits.astype(np.float64))
    mean = (wide / wide.sum(-1, keepdims=True)).mean(0)
    fused = jax.nn.softmax(ensemble.fuse(jnp.asarray(logits), "probabilities"))
    np.testing.assert_allclose(fused, mean, rtol=1e-5)


def test_fused_logits_decide_as_their_sum(logits):
    fused = ensemble.fuse(jnp.asarray(logits), "logits")
    np.testing.assert_array_equal(fused.argmax(-1), logits.sum(0).argmax(-1))


def test_the_two_ways_differ_where_one_member_is_very_sure():
    sure, others = [0.0, 30.0, 0.0], [5.0, 0.0, 0.0]
    logits = jnp.asarray([[sure], [others], [others]])
    assert ensemble.fuse(logits, "probabilities").argmax() == 0
    assert ensemble.fuse(logits, "logits").argmax() == 1


def test_one_member_is_itself(logits):
    one = jnp.asarray(logits[:1])
    for how in ("probabilities", "logits"):
        np.testing.assert_allclose(
            jax.nn.softmax(ensemble.fuse(one, how)), jax.nn.softmax(one[0]), rtol=1e-5
        )


def test_extreme_logits_stay_finite():
    logits = jnp.asarray([[[1e4, -1e4]], [[-1e4, 1e4]]])
    assert np.all(np.isfinite(ensemble.fuse(logits, "probabilities")))


def test_unknown_way_is_refused(logits):
    with pytest.raises(ValueError, match="'vote'"):
        ensemble.fuse(jnp.asarray(logits), "vote")


@pytest.mark.parametrize("how", ["probabilities", "logits"])
def test_growing_ensembles_are_the_fusion_of_the_first_members(logits, how):
    """By a running sum, in float32, from log-probabilities."""
    kept = [np.asarray(jax.nn.log_softmax(member)) for member in logits]
    for count, fused in enumerate(ensemble.growing(kept, how), start=1):
        expected = jax.nn.log_softmax(ensemble.fuse(jnp.asarray(logits[:count]), how))
        np.testing.assert_allclose(fused, expected, rtol=1e-4, atol=1e-5)
        assert fused.dtype == np.float32


@pytest.mark.parametrize("how", ["probabilities", "logits"])
def test_each_member_is_looked_at_once(logits, how):
    """All ensembles of 1 to N are linear in N: by a running sum, not anew for each."""

    class Counted:
        looks = 0

        def __init__(self, values):
            self.values = values

        def __array__(self, dtype=None, copy=None):
            self.looks += 1
            return self.values.astype(dtype)

    members = [Counted(each) for each in logits]
    assert len(list(ensemble.growing(members, how))) == 3
    assert [member.looks for member in members] == [1, 1, 1]


def test_judging_in_chunks_counts_every_image_once(logits, monkeypatch):
    labels = np.array([0, 1, 2, 3])
    kept = [np.float16(jax.nn.log_softmax(member)) for member in logits]
    whole = tallies.judge_ensembles(labels, kept, [], how="probabilities")
    monkeypatch.setattr(ensemble, "AT_ONCE", 5)  # one row at a time
    assert tallies.judge_ensembles(labels, kept, [], how="probabilities") == whole
    assert whole["single"] == [float(np.mean(m.argmax(-1) == labels)) for m in kept]
    assert whole["ensemble"][0] == whole["single"][0] and whole["images"] == 4


def test_overlap_of_two_members_is_their_orthogonal_loss():
    rng = np.random.default_rng(1)
    teacher, student = jnp.asarray(rng.normal(size=(2, 3, 4, 4, 6)), jnp.float32)
    maps = [np.asarray(transfer.standardize(transfer.attention_map(f))) for f in (teacher, student)]
    means = tallies.attention_overlap(maps)
    there, back = (transfer.orthogonal_loss(*p) for p in ((student, teacher), (teacher, student)))
    np.testing.assert_allclose(means[0][1], there, rtol=1e-5)
    np.testing.assert_allclose(means[1][0], back, rtol=1e-5)


def test_high_responses_overlap_where_both_members_respond():
    """A member that looks where the other sees background has |Z| in common with it, not Z > 0."""
    looks = np.array([[[3.0, -1.0], [-1.0, -1.0]]])
    assert tallies.attention_overlap([looks, -looks])[0][1] == pytest.approx(3 / 4)
    answers = [np.zeros((1, 2), np.float32)] * 2
    found = tallies.judge_ensembles(np.zeros(1, int), answers, [looks, -looks], how="probabilities")
    assert found["response_overlap"] == [[9 / 4, 0.0], [0.0, 3 / 4]]


def test_overlap_of_maps_on_different_grids_is_on_the_students():
    rng = np.random.default_rng(2)
    fine, coarse = rng.normal(size=(3, 4, 4)), rng.normal(size=(3, 2, 2))
    means = tallies.attention_overlap([fine, coarse])
    for i, j, teacher, student in ((0, 1, fine, coarse), (1, 0, coarse, fine)):
        there = transfer.on_grid(jnp.abs(jnp.asarray(teacher, jnp.float32)), student.shape[1:])
        assert there.shape == student.shape
        expected = np.mean(there * np.maximum(student, 0))
        np.testing.assert_allclose(means[i][j], expected, rtol=1e-5)
    assert tallies.attention_overlap([np.ones((2, 3, 3)), np.ones((2, 4, 4))])[0][1] == 1.0


@pytest.mark.parametrize("how", ["probabilities", "logits"])
def test_softened_answers_are_those_at_their_temperature(logits, how):
    """METHODS' p_E: the mean of softmax(z / T), or the softmax of the mean z / T."""

    def softmax(z):
        return np.exp(z) / np.exp(z).sum(-1, keepdims=True)

    z, temperature = 4 * logits.astype(np.float64), 3.0
    wanted = {
        "probabilities": softmax(z / temperature).mean(0),
        "logits": softmax(z.mean(0) / temperature),
    }
    found = ensemble.softened(jnp.asarray(4 * logits), how, temperature=temperature)
    np.testing.assert_array_equal(found.max(-1), 0)
    np.testing.assert_allclose(jax.nn.softmax(found / temperature), wanted[how], rtol=1e-5)
