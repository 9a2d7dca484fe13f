"""A frozen trunk: shared by members, run once for every view, known by what made it."""

import dataclasses
import json
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny
from flax.traverse_util import flatten_dict
from PIL import Image

import fgvc_jax
from fgvc_jax import networks
from fgvc_jax.commands import evaluate
from fgvc_jax.config import Network, Optimizer, Transfer
from fgvc_jax.inference import model, passes
from fgvc_jax.networks.heads import LinearHead
from fgvc_jax.networks.weights import export_torch
from fgvc_jax.objectives import CSDNet
from fgvc_jax.training import experiments, members
from fgvc_jax.training.members import attention_before
from fgvc_jax.training.precomputed.store import Store
from fgvc_jax.training.run import Run
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import space, storage
from fgvc_jax.workdir.folder import Workdir

pytestmark = pytest.mark.slow

NETWORKS = {
    "resnet_micro": Network(name="resnet_micro", head_width=16, frozen="stage3"),
    "vgg_micro": Network(name="vgg_micro", head_width=16, frozen="stage3"),
    "vit_micro": Network(name="vit_micro", head="linear", frozen="stage3"),
    "efficientnet_micro": Network(name="efficientnet_micro", head="linear", frozen="stage3"),
    **{
        name: Network(name=name, head="linear", frozen="stage3", stochastic_depth=0.3)
        for name in ("convnext_micro", "swin_micro", "dinov2_micro", "dinov3_micro")
    },
}


def frozen(workdir, name="resnet_micro", **changes):
    data = dataclasses.replace(tiny().data, **changes.pop("data", {}))
    changes.setdefault("network", NETWORKS[name])
    return tiny(workdir, **{"csdnet": CSDNet(queue=16), "data": data, **changes})


def prepared(experiment, member=1):
    """(run with the features of a member's views, what was said)."""
    run, said = Run(experiment), []
    run.cache.prepare(member, None, said.append)
    return run, said


# -- up to a stage and on from it ------------------------------------------------------------------


@cache
def plain(name):
    network = networks.create(
        name, heads={"logits": LinearHead(classes=4)}, dtype=jnp.float32, batch_norm_groups=1
    )
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    variables = jax.jit(partial(network.init, train=True))(jax.random.key(0), images)
    whole = jax.jit(lambda v, x: network.apply(v, x, False, method="taps"))(variables, images)
    return network, variables, images, whole


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_backbone_runs_up_to_each_stage_and_on_from_it(name):
    network, variables, images, whole = plain(name)

    @jax.jit
    def pieces(variables, inputs):
        found, after = [], ""
        for until in networks.STAGES:

            def piece(m, x, after=after, until=until):
                return m.backbone(x, False, after=after, until=until)

            taps, inputs = network.apply(variables, inputs, method=piece)
            found.append(taps)
            after = until
        return found

    found = pieces(variables, images)
    first = [stage for taps in found for stage in taps if stage in networks.STAGES]
    assert first == list(networks.STAGES)  # each in its own piece
    taps = {name: array for each in found for name, array in each.items()}
    assert taps.keys() == whole.keys()
    for tap, array in taps.items():
        np.testing.assert_allclose(array, whole[tap], rtol=1e-5, atol=1e-6)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", NETWORKS)
def test_trunk_and_member_are_the_network(name):
    """Their variables are its variables, and together they answer what it answers."""
    experiment = frozen("unused", name)
    plan = Run(experiment).plan(1).architecture
    whole = plan.initial(jax.random.key(0), flatten_dict(plan.whole))
    trunk, member = plan.split(whole)
    places = [set(flatten_dict(tree)) for tree in (trunk, member, whole)]
    assert places[0] | places[1] == places[2] and not places[0] & places[1]
    assert {place[1] for place in places[0]} == {"backbone"}

    unfrozen = dataclasses.replace(experiment.network, frozen="")
    run = Run(dataclasses.replace(experiment, network=unfrozen))
    network = run.plan(1).architecture.network
    images = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
    taps, outputs = jax.jit(lambda v, x: network.apply(v, x, False))(whole, images)
    features_of = jax.jit(lambda v, x: plan.network.apply(v, x, method="features"))
    features = features_of(trunk, images)
    assert all(array.dtype == jnp.float16 for array in features.values())
    ours, our_outputs = jax.jit(lambda v, x: plan.network.apply(v, x, False))(member, features)
    assert ours.keys() == taps.keys()
    for tap in ("stage2", "stage3"):
        averaged = taps[tap].mean((1, 2), keepdims=True)
        np.testing.assert_allclose(ours[tap], averaged, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(our_outputs["logits"], outputs["logits"], rtol=5e-3, atol=5e-3)


def test_features_stay_within_float16():
    network, variables, images, _ = plain("resnet_micro")
    network = network.clone(frozen="stage3")
    features = jax.jit(lambda v, x: network.apply(v, x, method="features"))(variables, 1e9 * images)
    assert features["map"].max() == np.finfo(np.float16).max


# -- training from the features --------------------------------------------------------------------


def losses(run, steps, teachers=(), member=2):
    state = run.state(member, list(teachers))
    store = run.images["train"].store
    for _, batch in zip(range(steps), run.train_batches(member, 0), strict=False):
        batch = run.cache.complete(devices.shard_batch(run.mesh, batch))
        state, metrics = run.plan(member).train_step(state, batch, store)
        yield state, jax.device_get(metrics)


CASES = [
    ("resnet_micro", "ce", "orthogonal"),
    ("resnet_micro", "hsd", "none"),
    ("resnet_micro", "csdnet", "none"),
    ("vgg_micro", "hsd", "orthogonal"),
    ("vit_micro", "csdnet", "orthogonal"),
    ("convnext_micro", "csdnet", "orthogonal"),
    ("swin_micro", "hsd", "orthogonal"),
    ("dinov3_micro", "ce", "orthogonal"),
]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("network", "objective", "transfer"), CASES)
def test_every_objective_with_every_transfer(tmp_path, network, objective, transfer):
    experiment = frozen(
        tmp_path, network, objective=objective, transfer=Transfer(name=transfer, maps="online")
    )
    run, _ = prepared(experiment)
    teachers = [run.start.variables(1)] if transfer == "orthogonal" else []
    first = jax.device_get(run.state(2, teachers))
    *_, (state, metrics) = losses(run, 2, teachers)
    assert all(np.isfinite(value) for value in metrics.values())
    trunk = set(flatten_dict(run.trunk.variables["params"]))
    assert trunk and not trunk & set(flatten_dict(state.params))
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), first.params, state.params)
    assert any(jax.tree.leaves(moved["backbone"])) and any(jax.tree.leaves(moved["heads"]))
    assert ("orthogonal" in metrics) == (transfer == "orthogonal")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("network", "objective"),
    [("resnet_micro", "ce"), ("resnet_micro", "csdnet"), ("vit_micro", "ce"),
     ("swin_micro", "csdnet"), ("dinov3_micro", "ce")],
)  # fmt: skip
def test_looked_up_or_run_in_the_step_for_twenty_steps(tmp_path, network, objective):
    """A transformer bit for bit: features of 64 images at a time were others than of 8. What a
    convolution rounds to depends on the image's place in the batch, however large that is."""

    def run_with(gib):
        experiment = frozen(
            tmp_path / str(gib),
            network,
            objective=objective,
            epochs=5,
            data={"cache_gib": gib, "views": 3},
            transfer=Transfer(maps="precomputed"),
            optimizer=Optimizer(learning_rate=0.001, head_learning_rate=0.01),
        )
        run, said = Run(experiment), []
        teacher = run.start.variables(1)
        before = [("one", run.member(1, teacher))]
        run.cache.prepare(2, attention_before(run, 2, before), said.append)
        return run, said, [metrics for _, metrics in losses(run, 20, [teacher])]

    cached, _, looked_up = run_with(1.0)
    in_step, said, computed = run_with(0.0)
    assert cached.cache.train.lookups.keys() >= {"features", "attention"}
    assert not in_step.cache.train.lookups and len(said) == 3
    assert "image" not in next(cached.train_batches(1, 0))
    assert looked_up[0]["orthogonal"] > 0.05
    within = 0 if network in ("vit_micro", "swin_micro", "dinov3_micro") else 1e-3
    for one, other in zip(looked_up, computed, strict=True):
        for name in ("loss", "cross_entropy", "orthogonal"):
            assert other[name] == pytest.approx(one[name], rel=within, abs=0)


def test_members_of_own_views_have_features_of_their_own(tmp_path):
    experiment = frozen(tmp_path, data={"view_sharing": "own"}, transfer=Transfer(name="none"))
    run, _ = prepared(experiment, member=2)
    batch = next(run.train_batches(2, 0))
    assert set(batch["view"]) == {2}
    again, said = prepared(experiment, member=1)
    assert len(said) == 2  # of the test images there are all, of the training images other views
    assert again.train_batches(1, 0) is not None


# -- what is kept ----------------------------------------------------------------------------------


def test_a_kill_in_the_pass_computes_nothing_twice(tmp_path, monkeypatch):
    experiment = frozen(tmp_path, data={"views": 3}, epochs=3)
    made = []
    make = Store.make

    def killed(self, view, parts, *, write):
        if len(made) == 3:  # all views; the test images' are left
            raise KeyboardInterrupt
        make(self, view, parts, write=write)
        made.append(view)

    monkeypatch.setattr(Store, "make", killed)
    with pytest.raises(KeyboardInterrupt):
        prepared(experiment)
    before = {path.name: path.read_bytes() for path in (tmp_path / "precomputed").iterdir()}
    assert len(before) == 3
    made.clear()

    def counted(self, view, parts, *, write):
        made.append(view)
        make(self, view, parts, write=write)

    monkeypatch.setattr(Store, "make", counted)
    prepared(experiment)
    assert made == [0]
    after = {path.name: path.read_bytes() for path in (tmp_path / "precomputed").iterdir()}
    assert len(after) == 4 and before.items() <= after.items()


@pytest.mark.exhaustive
def test_seeds_share_a_cache(tmp_path):
    cached = {"cache": str(tmp_path / "shared"), "view_seed": 5}
    weights = tmp_path / "weights.safetensors"
    write_weights(weights, 0)
    network = dataclasses.replace(NETWORKS["resnet_micro"], weights=str(weights))
    for seed, told in ((0, 4), (1, 0)):
        _, said = prepared(frozen(tmp_path / "run", seed=seed, data=cached, network=network))
        assert len(said) == told, said
    assert len(list((tmp_path / "shared").iterdir())) == 3
    # Other views of the same images: those of the test images stay.
    _, said = prepared(frozen(tmp_path / "run", data=cached | {"view_seed": 6}, network=network))
    assert len(said) == 2 and "train" in said[0]


def write_weights(path, seed):
    unfrozen = dataclasses.replace(NETWORKS["resnet_micro"], frozen="")
    export_torch(path, Run(frozen("unused", network=unfrozen, seed=seed)).start.variables(1))


def test_another_trunk_of_equal_size_is_not_served(tmp_path):
    path, made = tmp_path / "weights.safetensors", []
    network = dataclasses.replace(NETWORKS["resnet_micro"], weights=str(path))
    for seed in (0, 1):
        write_weights(path, seed)
        run, said = prepared(frozen(tmp_path, network=network))
        made.append(run.cache.judged["test"].lookups["features"](0, np.arange(4)))
        assert len(said) == 4
    assert not np.array_equal(made[0]["map"], made[1]["map"])


def test_other_images_of_equal_size_are_not_served(tmp_path):
    """Also where images are streamed, whose contents nobody reads otherwise; nor does the run go
    on with them."""
    folder = tmp_path / "birds"
    for part in ("train", "test"):
        for name in ("a", "b"):
            (folder / part / name).mkdir(parents=True)
            for i in range(4):
                shade = 40 * i + 10 * (name == "b") + 5 * (part == "test")
                pixels = np.full((36, 36, 3), shade, np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{i}.bmp")
    data = {"source": f"folder:{folder}", "classes": 0, "images_per_class": 0}
    experiment = frozen(tmp_path / "run", data=data | {"placement": "stream"}, batch_size=4)
    before, _ = prepared(experiment)
    first = before.cache.judged["test"].lookups["features"](0, np.arange(8))
    assert before.record.others(before.record) == "" and prepared(experiment)[1] == []
    changed = folder / "test" / "a" / "2.bmp"
    size = changed.stat().st_size
    Image.fromarray(np.full((36, 36, 3), 255, np.uint8)).save(changed)
    assert changed.stat().st_size == size
    run, said = prepared(experiment)
    assert len(said) == 2 and "test" in said[0]
    assert before.record.others(run.record) == "other test images"
    second = run.cache.judged["test"].lookups["features"](0, np.arange(8))
    assert np.abs(first["map"] - second["map"]).max(axis=(1, 2, 3)).astype(bool).sum() == 1


def test_the_size_is_said_before_it_is_written(tmp_path):
    run, said = prepared(frozen(tmp_path))
    assert "features of 100 test images, 0.00 GiB, in" in said[0]
    assert "32 train images in 2 views" in said[1]
    sizes = sum(path.stat().st_size for path in (tmp_path / "precomputed").iterdir())
    values = sum(x.size for x in jax.tree.leaves(run.plan(1).architecture.features))
    assert sizes == pytest.approx(2 * values * (100 + 2 * 32), rel=0.05)


def test_a_full_disk_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(space, "free_space", lambda folder: 2**20)
    run, said = prepared(frozen(tmp_path))
    assert run.cache.train.lookups == {} and not (tmp_path / "precomputed").exists()
    assert len(said) == 2 and all("do not fit the disk" in line for line in said)


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--data.cache"):
        prepared(frozen(tmp_path, data={"cache": str(tmp_path / "file")}))


# -- from the first line to the answers ------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("frozen") / "run"
    return workdir, members.train(frozen(workdir))


def test_a_workdir_keeps_the_trunk_once(trained):
    workdir, _ = trained
    run = Run(frozen(workdir))
    opened = model.open_model(workdir)
    assert set(flatten_dict(opened.trunk)) == set(flatten_dict(run.trunk.variables))
    for member in opened.members:
        tail = set(flatten_dict(member.variables))
        assert tail and not tail & set(flatten_dict(opened.trunk))
    record = json.loads((workdir / "config.json").read_text())
    assert record["digests"]["trunk"] == run.trunk.digest


def test_evaluate_and_load_answer_what_train_answered(trained, monkeypatch):
    """The trunk runs once for all members: with what it costs the tails are all that is added."""
    workdir, results = trained
    again = evaluate.evaluate(evaluate.Evaluation(workdir=str(workdir)))
    storage.remove(workdir / "predictions" / results["predictions"]["test"])
    runs = []
    trunk_pass = passes.trunk_pass

    def counted(**options):
        step = trunk_pass(**options)
        return lambda *arguments: (runs.append(1), step(*arguments))[1]

    monkeypatch.setattr(passes, "trunk_pass", counted)
    anew = evaluate.evaluate(evaluate.Evaluation(workdir=str(workdir)))
    assert len(runs) == 2  # batches of 100 images, for two members
    for found in (again, anew):
        assert found["ensemble"] == results["ensemble"]
        assert [m["final"] for m in found["members"]] == [m["final"] for m in results["members"]]
    opened = fgvc_jax.load(workdir)
    run = Run(frozen(workdir))
    images = [run.splits.test[i]["image"] for i in range(100)]
    right = np.mean(opened.predict(images).argmax(-1) == run.splits.test.labels)
    assert right == pytest.approx(results["ensemble"][-1])
    assert opened.attention(images[:3]).shape == (2, 3, *opened.grid(0))


def test_without_a_cache_the_results_are_the_same(trained, tmp_path):
    _, results = trained
    uncached = members.train(frozen(tmp_path, data={"cache_gib": 0.0}))
    assert not (tmp_path / "precomputed").exists()
    assert uncached["ensemble"] == results["ensemble"]
    assert uncached["members"] == results["members"]


def test_a_finished_run_is_judged_again_without_its_results(trained):
    workdir, results = trained
    (workdir / "results.json").unlink()
    again = members.train(frozen(workdir))
    assert again["ensemble"] == results["ensemble"]


def test_another_trunk_in_the_workdir_is_refused(trained, tmp_path):
    workdir, _ = trained
    other = Run(frozen(tmp_path, seed=9)).trunk.on_devices
    storage.copy_folder(workdir, tmp_path / "run")
    storage.remove(tmp_path / "run" / "trunk")
    model.checkpoint.save_final(Workdir(tmp_path / "run").trunk, other)
    with pytest.raises(UserError, match="not the frozen trunk that the members were trained with"):
        model.open_model(tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--network.frozen stage9", "resnet_small has no such stage, but stage2, stage3, stage4"),
        ("--network.frozen token", "no such stage"),
        ("--network.frozen stage5", "leaves nothing of resnet_small to train"),
        (
            "--network.frozen stage4 --objective csdnet --csdnet.view adaptive",
            "take --csdnet.view viewpoint, or no --network.frozen",
        ),
        ("--data.cache-gib -1", "--data.cache-gib is -1.0: it must be at least 0"),
    ],
)
def test_mistakes_are_one_line(arguments, words):
    with pytest.raises(UserError) as error:
        Run(experiments.parse(arguments.split()))
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.exhaustive
def test_a_random_trunk_is_warned_of(tmp_path, capsys):
    members.train(frozen(tmp_path, members=1, epochs=1))
    assert "the frozen trunk has random weights" in capsys.readouterr().out
