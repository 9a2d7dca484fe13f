"""The training step: every objective with every transfer on every kind of network."""

import dataclasses
from functools import cache, partial

import jax
import numpy as np
import pytest
from conftest import first_quick, tiny

from fgvc_jax.config import Network, Optimizer, Transfer
from fgvc_jax.inference import answers
from fgvc_jax.networks import convnext
from fgvc_jax.objectives import CSDNet
from fgvc_jax.training import evaluator, plan
from fgvc_jax.training.run import Run
from fgvc_jax.training.step import norm
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions

NETWORKS = {
    "resnet_micro": Network(name="resnet_micro", head_width=16),
    "vgg_micro": Network(name="vgg_micro", head_width=16),
    **{
        name: Network(name=name, head="linear", stochastic_depth=0.3)
        for name in ("convnext_micro", "swin_micro", "dinov2_micro", "dinov3_micro")
    },
    "vit_micro": Network(name="vit_micro", head="linear"),
}


@cache
def run_of(objective, network, transfer, maps="online"):
    return Run(
        tiny(
            objective=objective,
            network=NETWORKS[network],
            transfer=Transfer(name=transfer, maps=maps),
            csdnet=CSDNet(queue=16),
        )
    )


def train(run, number, frozen, steps=2):
    """(state before, state after, metrics of each step)."""
    before = run.state(number, frozen)
    kept = jax.tree.map(np.array, before)
    batches = run.train_batches(number, 0)
    state, metrics = before, []
    for _ in range(steps):
        state, logged = run.plan(number).train_step(
            state, devices.shard_batch(run.mesh, next(batches)), None
        )
        metrics.append(jax.device_get(logged))
    return kept, jax.device_get(state), metrics


def test_the_norm_of_a_gradient():
    leaves = np.sin(np.arange(24.0)).reshape(2, 3, 4), np.cos(np.arange(5.0)), np.float64([7])
    expected = np.linalg.norm(np.concatenate([leaf.ravel() for leaf in leaves]))
    np.testing.assert_allclose(norm(jax.tree.map(np.float32, leaves)), expected, rtol=1e-6)
    assert np.isnan(norm({"a": np.float32([[np.nan, 1]]), "b": np.float32([1])}))


# Every two of an objective, a network and a transfer meet, in half of the runs that all three take.
PAIRS = [
    (objective, ("orthogonal", "none")[(i + j) % 2], network)
    for i, objective in enumerate(("ce", "hsd", "csdnet"))
    for j, network in enumerate(NETWORKS)
]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("objective", "transfer", "network"),
    first_quick(PAIRS),
)
def test_every_two_of_objective_transfer_and_network(objective, transfer, network):
    run = run_of(objective, network, transfer)
    first = run.start.variables(1)
    for number, frozen in ((1, []), (2, [first])):
        before, after, metrics = train(run, number, frozen)
        assert after.step == 2
        assert all(np.isfinite(v) for step in metrics for v in step.values())
        moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before.params, after.params)
        assert all(jax.tree.leaves(moved["heads"]["logits"]))
        assert any(jax.tree.leaves(moved["backbone"]))
        if transfer == "orthogonal":
            # Only a member that has teachers pays, and the teachers stay as they were.
            assert all((step["orthogonal"] > 0) == (number == 2) for step in metrics)
            same = jax.tree.map(np.array_equal, before.teachers, after.teachers)
            assert all(jax.tree.leaves(same))
        else:
            assert "orthogonal" not in metrics[0]
    # One compiled step serves all members, epochs and resumptions.
    assert run.plan(1).train_step._cache_size() == 1


def test_the_step_is_a_pure_function_of_state_and_batch():
    run = run_of("ce", "resnet_micro", "orthogonal")
    one, other = (train(run, 2, [run.start.variables(1)]) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


def test_the_norm_that_is_told_is_that_of_the_gradient():
    run = run_of("ce", "resnet_micro", "orthogonal")
    before, after, (told,) = train(run, 1, [], steps=1)
    decay = run.experiment.optimizer.weight_decay  # which the first step of SGD adds
    gradient = jax.tree.map(
        lambda a, b: (a - b) / told["learning_rate"] - decay * a, before.params, after.params
    )
    np.testing.assert_allclose(told["gradient_norm"], norm(gradient), rtol=1e-3)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_frozen_norms_learn_their_scale_alone():
    run = Run(tiny(network=Network(name="resnet_micro", head_width=16, frozen_norm=True)))
    before, after, _ = train(run, 1, [])
    norms = [s["backbone"] for s in (before.batch_stats, after.batch_stats)]
    assert jax.tree.leaves(norms[0])
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, *norms)))
    scales = [s.params["backbone"]["bn1"]["scale"] for s in (before, after)]
    assert not np.array_equal(*scales)
    heads = [s["heads"] for s in (before.batch_stats, after.batch_stats)]
    assert not any(jax.tree.leaves(jax.tree.map(np.array_equal, *heads)))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_jit_equals_eager():
    run = run_of("ce", "resnet_micro", "orthogonal")
    _, jitted, _ = train(run, 2, [run.start.variables(1)], steps=1)
    with jax.disable_jit():
        _, eager, _ = train(run, 2, [run.start.variables(1)], steps=1)
    for a, b in zip(jax.tree.leaves(jitted), jax.tree.leaves(eager), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("objective", ["ce", "hsd", "csdnet"])
def test_twenty_steps_in_bfloat16_lose_what_they_lose_in_float32(objective):
    """At rates that leave the networks' paths together; at 0.02 these micro ones part by step 5."""
    losses = []
    for dtype in ("float32", "bfloat16"):
        run = Run(
            tiny(
                objective=objective,
                epochs=10,
                batch_size=16,
                network=dataclasses.replace(NETWORKS["resnet_micro"], dtype=dtype),
                transfer=Transfer(maps="online"),
                optimizer=Optimizer(learning_rate=0.002, head_learning_rate=0.002),
                csdnet=CSDNet(queue=16),
            )
        )
        _, _, metrics = train(run, 2, [run.start.variables(1)], steps=20)
        losses.append([step["loss"] for step in metrics])
    np.testing.assert_allclose(*losses, rtol=0.02)
    assert losses[0] != losses[1]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_alpha_zero_trains_as_no_transfer():
    teacher = run_of("ce", "resnet_micro", "none").start.variables(1)
    _, plain, _ = train(run_of("ce", "resnet_micro", "none"), 2, [teacher])
    without = Run(tiny(network=NETWORKS["resnet_micro"], transfer=Transfer(alpha=0, maps="online")))
    _, zero, _ = train(without, 2, [teacher])
    for a, b in zip(jax.tree.leaves(plain.params), jax.tree.leaves(zero.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("options", [CSDNet(queue=16), CSDNet(queue=16, keys="ema"), None])
def test_blocks_are_left_out_by_the_images_keys(options, monkeypatch):
    """Of both of CSDNet's views, each by its own; its moving average is whole, as a teacher is."""
    asked = []

    def record(branch, keys, rate, number):
        asked.append((len(branch), None if keys is None else keys.shape))
        return branch

    monkeypatch.setattr(convnext, "stochastic_depth", record)
    run = Run(
        tiny(
            objective="csdnet" if options else "hsd",
            network=NETWORKS["convnext_micro"],
            transfer=Transfer(name="none"),
            csdnet=options or CSDNet(),
        )
    )
    state, batch = run.state(1, []), next(run.train_batches(1, 0))
    asked.clear()
    jax.eval_shape(run.plan(1).train_step, state, devices.shard_batch(run.mesh, batch), None)
    images = 2 * len(batch["row"]) if options else len(batch["row"])
    whole = {(len(batch["row"]), None)} if options and options.keys == "ema" else set()
    assert set(asked) == {(images, (images,))} | whole


def test_options_that_a_network_does_not_have_are_refused():
    for network, optimizer, message in (
        (Network(name="convnext_micro", head="linear", batch_norm_groups=2), {}, "no batch norm"),
        (Network(name="resnet_micro"), {"layer_decay": 0.5}, "--optimizer.layer-decay 0.5"),
    ):
        experiment = tiny(network=network, optimizer=Optimizer(**optimizer))
        with pytest.raises(UserError, match=message):
            Run(experiment)
    network = Network(name="convnext_micro", head="kt", batch_norm_groups=2)
    run = Run(tiny(network=network, optimizer=Optimizer(layer_decay=0.5)))
    layers = run.plan(1).layers
    assert layers.decay == 0.5 and layers.of(["stages_3", "blocks_0"]) == 5


def test_more_steps_than_can_be_counted_are_refused(monkeypatch):
    monkeypatch.setattr(plan, "LARGEST", 15)
    with pytest.raises(UserError, match="--epochs 4 are 16 steps, more than 15: lower it"):
        Run(tiny(epochs=4))


def test_members_start_differently_and_see_another_order():
    run = run_of("ce", "resnet_micro", "orthogonal")
    one, two = run.start.variables(1), run.start.variables(2)
    different = jax.tree.map(lambda a, b: not np.array_equal(a, b), one, two)
    assert any(jax.tree.leaves(different["params"]["backbone"]))
    assert any(jax.tree.leaves(different["params"]["heads"]))
    rows = [next(run.train_batches(number, 0))["row"] for number in (1, 2)]
    assert not np.array_equal(*rows)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_evaluation_counts_are_the_same_at_every_batch_size():
    experiment = tiny(network=NETWORKS["resnet_micro"])
    runs = [
        Run(dataclasses.replace(experiment, evaluation_batch_size=size)) for size in (1, 7, 64, 128)
    ]
    variables = runs[0].start.variables(1)
    scores = [evaluator.evaluate_member(run, run.member(1, variables)) for run in runs]
    assert all(score == scores[0] for score in scores)
    assert scores[0]["test_images"] == 100


def test_epochs_and_the_end_are_judged_by_one_program(tmp_path):
    """Two programs differed in bfloat16, and `final` was not what the last epoch had said."""
    run = Run(tiny(network=NETWORKS["resnet_micro"]))
    variables, images = run.start.variables(1), run.images["test"]
    member = run.member(1, variables)
    ((_, _, program, _),) = run.model([member], [""]).groups(exact=False, embed=False)
    program.clear_cache()
    evaluator.evaluate_member(run, member)
    part = predictions.part_of(
        tmp_path, "validation", images.source,
        classes=run.splits.classes, view=run.experiment.data.view, images="digest",
    )  # fmt: skip
    batches = partial(evaluator.batches_of, run, images)
    answers.keep_answers(run.model([member], ["m" * 64]), part, batches, images.store)
    assert program._cache_size() == 1


def test_evaluation_batches_are_as_equal_as_they_can_be():
    """100 test images."""
    for most, sizes in {64: [50, 50], 128: [100], 48: [34, 34, 34]}.items():
        run = Run(tiny(evaluation_batch_size=most))
        batches = evaluator.batches_of(run, run.images["test"])
        assert [len(batch["label"]) for batch in batches] == sizes


@pytest.mark.exhaustive
@pytest.mark.slow
def test_images_on_the_device_train_and_evaluate_alike():
    scores = []
    for placement in ("stream", "device"):
        data = dataclasses.replace(tiny().data, placement=placement)
        run = Run(tiny(network=NETWORKS["resnet_micro"], data=data))
        scores.append(evaluator.evaluate_member(run, run.member(1, run.start.variables(1))))
        store = run.images["train"].store
        batch = devices.shard_batch(run.mesh, next(run.train_batches(1, 0)))
        state, metrics = run.plan(1).train_step(run.state(1, []), batch, store)
        scores[-1]["loss"] = float(metrics["loss"])
    assert scores[0] == scores[1]
