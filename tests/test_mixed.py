"""Members of different networks: one after the other, under one optimizer, on the same data."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import tiny

import fgvc_jax
from fgvc_jax import config
from fgvc_jax.commands import evaluate, explain, export, predict, report
from fgvc_jax.config import Experiment, Network, Transfer
from fgvc_jax.data import feed
from fgvc_jax.inference import gradcam
from fgvc_jax.objectives.base import TeacherQuery
from fgvc_jax.study import Study, definition, ledger
from fgvc_jax.training import evaluator, experiments
from fgvc_jax.training.members import attention_before, train
from fgvc_jax.training.precomputed import open_teacher
from fgvc_jax.training.run import Run
from fgvc_jax.transfer import on_grid
from fgvc_jax.utils import devices, digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir.folder import Workdir

NETWORKS = (
    Network(name="resnet_micro", head_width=16),  # 4 x 4
    Network(name="swin_micro", head="linear", normalize="imagenet"),  # 2 x 2
    Network(name="vgg_micro", head="linear"),  # 4 x 4
)
GRIDS = (4, 4), (2, 2), (4, 4)
# What a resize by linear interpolation does along one side, by hand: sample points lie at the
# middle of pixels; where there are fewer, the triangle is as wide as their distance; at the border
# the weights still sum to 1.
UP = np.array([[4, 0], [3, 1], [1, 3], [0, 4]]) / 4
DOWN = np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7


def mixed(workdir="unused", networks=NETWORKS, **changes) -> Experiment:
    data = dataclasses.replace(tiny().data, view_sharing="shared")
    return tiny(
        workdir,
        **{"members": len(networks), "epochs": 1, "data": data} | changes,
        network=Network(),
        networks=networks,
    )


# -- a teacher's attention on another grid ---------------------------------------------------------


def test_attention_on_another_grid_is_resized_as_by_hand():
    maps = np.random.default_rng(0).random((3, 2, 2), np.float32)
    larger = on_grid(maps, (4, 4))
    np.testing.assert_allclose(larger, UP @ maps @ UP.T, rtol=1e-6)
    np.testing.assert_allclose(on_grid(larger, (2, 2)), DOWN @ larger @ DOWN.T, rtol=1e-6)
    np.testing.assert_array_equal(on_grid(maps, (2, 2)), maps)
    constant = np.full((1, 7, 5), 0.75, np.float32)
    np.testing.assert_allclose(on_grid(constant, (3, 11)), 0.75, rtol=1e-6)


def prepared(run, student):
    """The members before a student, as they start, with their attention in the run's cache."""
    before = [run.member(n, run.start.variables(n)) for n in range(1, student)]
    frozen = [(digests.of_arrays(member.variables), member) for member in before]
    run.cache.prepare(student, attention_before(run, student, frozen), print)
    return frozen


def taught(run, student):
    """The mean attention of the members before a student, as they start, and each one's |Z|."""
    count = len(run.splits.train)
    frozen = prepared(run, student)
    total = run.cache.train.lookups["attention"](0, np.arange(count))["sum"].astype(np.float32)
    batch = next(feed.batches(run.images["train"], count, run.mesh))
    own = []
    for number, one in enumerate(frozen):
        alone = dataclasses.replace(
            attention_before(run, student, [one]), grid=GRIDS[number], batch_size=count
        )
        own.append(np.asarray(alone.sum(batch, None)["sum"], np.float32))
    return total / len(frozen), own


@pytest.mark.exhaustive
@pytest.mark.slow
def test_every_grid_has_its_sum_of_the_members_before(tmp_path):
    run = Run(mixed(tmp_path))
    assert tuple(plan.architecture.grid for plan in run.plans) == GRIDS
    mean, (first,) = taught(run, 2)
    np.testing.assert_allclose(mean, DOWN @ first @ DOWN.T, rtol=2e-3, atol=2e-3)
    mean, (first, second) = taught(run, 3)
    np.testing.assert_allclose(mean, (first + UP @ second @ UP.T) / 2, rtol=2e-3, atol=2e-3)
    names = sorted(path.name.split(".")[0] for path in (tmp_path / "precomputed").iterdir())
    assert names == ["attention2x2", "attention4x4"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_step_against_a_teacher_on_another_grid(tmp_path):
    """Jit equals eager, and the loss logged is that of the resized map."""
    run = Run(mixed(tmp_path, networks=(NETWORKS[1], NETWORKS[0])))
    prepared(run, 2)
    batch = run.cache.complete(devices.shard_batch(run.mesh, next(run.train_batches(2, 0))))
    assert batch["attention"].shape[1:] == (4, 4)
    found = []
    for eager in (False, True):
        with jax.disable_jit(eager):
            state, metrics = run.plan(2).train_step(run.state(2, []), batch, None)
        assert float(metrics["orthogonal"]) > 0.05
        found.append((state.params, metrics))
    for jitted, eager in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(jitted, eager, rtol=1e-3, atol=1e-5)


# -- what they are known by ------------------------------------------------------------------------


def test_members_are_those_of_runs_of_their_network_alone():
    """So that a study's runs share them; nothing else of the config counts."""
    together = Run(mixed(transfer=Transfer(name="none"))).record
    for number, network in enumerate(NETWORKS, start=1):
        data = mixed().data
        if network.normalize != "auto":
            data = dataclasses.replace(data, normalize=network.normalize)
            network = dataclasses.replace(network, normalize="auto")
        alone = tiny(
            members=number, epochs=1, network=network, data=data, transfer=Transfer(name="none")
        )
        assert Run(alone).record.training(number, []) == together.training(number, [])


def test_networks_of_one_kind_share_their_programs():
    run = Run(mixed(networks=(NETWORKS[0], NETWORKS[1], NETWORKS[0])))
    assert run.plan(1) is run.plan(3) and run.plan(1) is not run.plan(2)


def test_a_saved_experiment_is_the_same():
    def changed(old, new):
        return list(map(str, config.differences(old, new)))

    experiment = mixed()
    saved = config.from_dict(json.loads(json.dumps(config.to_dict(experiment))))
    assert saved == experiment and not config.differences(saved, experiment)
    other = mixed(networks=(*NETWORKS[:2], dataclasses.replace(NETWORKS[2], head="kt")))
    assert changed(experiment, other) == ["--networks.3.head 'linear' -> 'kt'"]
    assert changed(experiment, mixed(networks=NETWORKS[:2])) == [
        "--members 3 -> 2",
        "--networks.3.name 'vgg_micro' -> None",
    ]
    plain = dataclasses.replace(experiment, network=NETWORKS[1], networks=())
    assert changed(plain, mixed()) == [
        "--network.name 'swin_micro' -> None",
        *(f"--networks.{n}.name None -> {network.name!r}" for n, network in enumerate(NETWORKS, 1)),
    ]
    fields = ledger.flat(json.loads(json.dumps(ledger.portable(experiment))))
    assert (fields["networks"], fields["networks.2.name"]) == (3, "swin_micro")
    assert ledger.digest_of(experiment) != ledger.digest_of(other)
    line = {"config": ledger.portable(experiment)}
    assert ledger.is_of(line, experiment) and not ledger.is_of(line, other)
    assert not ledger.is_of(line, dataclasses.replace(experiment, networks=()))


def test_a_field_that_networks_get_later_makes_no_other_run(monkeypatch):
    experiment, other = mixed(), mixed(networks=(*NETWORKS[:2], Network(name="vit_micro")))
    before, line = ledger.digest_of(experiment), {"config": ledger.portable(experiment)}
    portable = ledger.portable
    monkeypatch.setattr(ledger, "portable", lambda one: portable(one) | {"new": 0})
    assert "networks.2.new" in ledger.flat(ledger.portable(experiment))
    assert ledger.digest_of(experiment) == before != ledger.digest_of(other)
    assert ledger.is_of(line, experiment) and not ledger.is_of(line, other)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": 2}, "3 networks of single members for --members 2"),
        ({"network": Network(name="vit_micro")}, "--network.* is nobody's"),
        ({"transfer": Transfer(maps="online")}, "--transfer.maps online: .* take precomputed"),
        ({"batch_size": 9}, "--batch-size 9 is not divisible by --network.batch-norm-groups 2"),
        ({"frozen": "stage3"}, "--network.frozen: .* have no trunk to share"),
        ({"name": "resnet_macro"}, "unknown network 'resnet_macro'"),
        ({"head_width": 0}, "--networks.1.head-width is 0: it must be at least 1"),
        ({"normalize": "none"}, "--networks.1.normalize is 'none': choose one of"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    own = {name: value for name, value in changes.items() if hasattr(Network(), name)}
    first = dataclasses.replace(NETWORKS[0], batch_norm_groups=2, **own)
    top = {name: value for name, value in changes.items() if name not in own}
    experiment = dataclasses.replace(mixed(networks=(first, *NETWORKS[1:])), **top)
    with pytest.raises(UserError, match=message):
        Run(config.check(experiment))


def test_a_name_is_no_network():
    study = Study(mixed(), {"named": {"networks": ("resnet_micro", "vit_micro")}})
    with pytest.raises(UserError, match="row 'named': `networks` has 'resnet_micro': each must be"):
        definition.experiments(study, folder=Path("runs"), seeds=1)


def test_the_command_line_has_one_network(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from fgvc_jax.config import Experiment, Network\n"
        "def get_config():\n"
        "    names = 'resnet_micro', 'vit_micro'\n"
        "    return Experiment(members=2, networks=[Network(name=name) for name in names])\n"
    )
    words = ["--config", str(file)]
    assert [network.name for network in experiments.parse(words).each] == [
        "resnet_micro",
        "vit_micro",
    ]
    for more, message in (
        (["--network.name", "resnet50"], "--network.* is nobody's"),
        (["--networks.1.name", "resnet50"], "--networks is no option"),
        (["--members", "3"], "2 networks of single members for --members 3"),
    ):
        with pytest.raises(UserError, match=message):
            experiments.parse([*words, *more])


# -- trained ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed") / "run"
    data = dataclasses.replace(mixed().data, validation=0.25)
    return folder, train(mixed(folder, data=data))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    from PIL import Image

    for n, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (2, 40, 50, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return sorted(map(str, folder.iterdir()))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_they_are_trained_and_judged(trained):
    folder, results = trained
    assert len(results["members"]) == len(results["ensemble"]) == 3
    assert results["digests"]["weights"] == [None] * 3
    overlap = results["attention_overlap"]
    assert np.shape(overlap) == (3, 3) and np.all(np.asarray(overlap) > 0)
    last = (folder / "members/03/metrics.jsonl").read_text().splitlines()[-2]
    assert json.loads(last)["orthogonal"] > 0
    assert not (folder / "trunk").exists()
    assert train(Workdir(folder).record().experiment) == results  # nothing to do


@pytest.mark.exhaustive
@pytest.mark.slow
def test_another_network_is_added_and_continued_after_a_kill(trained, tmp_path, monkeypatch):
    """The same bits as at once."""
    _, results = trained
    data = dataclasses.replace(mixed().data, validation=0.25)

    def start(count):
        return train(mixed(tmp_path / "run", NETWORKS[:count], data=data, save_every=1))

    start(2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            evaluator, "evaluate_member", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        start(3)
    assert not (tmp_path / "run/members/03/final").exists()
    assert (tmp_path / "run/members/03/checkpoints").exists()
    again = start(3)
    assert again["digests"]["members"] == results["digests"]["members"]
    assert again["ensemble"] == results["ensemble"]
    with pytest.raises(UserError, match="--networks.2.name 'swin_micro' -> 'vit_micro'"):
        train(mixed(tmp_path / "run", (NETWORKS[0], Network(name="vit_micro"), NETWORKS[2])))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_they_answer_without_their_data(trained, photographs, tmp_path):
    folder, results = trained
    model = fgvc_jax.load(str(folder))
    assert tuple(model.grid(n) for n in range(3)) == GRIDS
    assert model.predict(photographs).shape == (2, 4)
    with pytest.raises(UserError, match="differ in size"):
        model.attention(photographs)
    found = evaluate.evaluate(evaluate.Evaluation(workdir=str(folder)))
    assert found["ensemble"] == results["ensemble"]
    for each in gradcam.find_evidence(model, photographs):
        assert tuple(attention.shape for attention in each.attention) == GRIDS
        assert each.cams.shape == (3, 32, 32)
    workdir = ["--workdir", str(folder)]
    predict.main([*photographs, *workdir, "--output", str(tmp_path / "answers.csv")])
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 3
    explain.main([*photographs, *workdir, "--output", str(tmp_path / "pictures")])
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2
    report.main([*workdir, "--output", str(tmp_path / "report.html")])
    assert "members of different networks" in (tmp_path / "report.html").read_text()


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "stablehlo", "hub"])
def test_they_are_exported(trained, photographs, tmp_path, kind):
    folder, _ = trained
    text = export.export(export.Export(str(folder), kind, str(tmp_path / "export")))
    assert "written" in text
    readme = (tmp_path / "export/README.md").read_text()
    assert "1 `resnet_micro` and 1 `swin_micro` and 1 `vgg_micro`" in readme
    assert "`half`, `imagenet`" in readme
    if kind == "hub":
        opened = fgvc_jax.load(str(tmp_path / "export"))
        again = fgvc_jax.load(str(folder)).predict(photographs)
        np.testing.assert_allclose(opened.predict(photographs), again, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_student_learns_from_them(trained, tmp_path):
    kd = dataclasses.replace(tiny().kd, teacher=str(trained[0]))
    results = train(
        tiny(tmp_path / "student", members=1, epochs=1, objective="kd", kd=kd, data=mixed().data)
    )
    assert results["digests"]["teacher"]


@pytest.mark.slow
def test_teachers_stay_what_they_are_when_their_ensemble_grows(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "before")
    workdir = Workdir(tmp_path / "before")
    record, spec = workdir.record(), workdir.record().experiment
    smaller = dataclasses.replace(spec, members=2, networks=spec.networks[:2])
    known = record.digests | {"weights": [None] * 2}
    workdir.claim(dataclasses.replace(record, experiment=smaller, digests=known))
    before, after = (
        open_teacher(
            TeacherQuery(str(folder), "final", 2, 1.0),
            record.classes, view=spec.data.view, seed=0, mesh=devices.create_mesh(),
        ).digest
        for folder in (workdir.path, trained[0])
    )  # fmt: skip
    assert before == after
