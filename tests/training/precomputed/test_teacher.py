"""A student's teachers: what they see and say, computed once, known by what they are."""

import dataclasses
import itertools
import json
import shutil

import jax
import numpy as np
import pytest
from conftest import tiny

import fgvc_jax
from fgvc_jax.config import Network, Optimizer, Transfer
from fgvc_jax.data import augment
from fgvc_jax.objectives import HSD, KD
from fgvc_jax.training import members, summary
from fgvc_jax.training.members import attention_before
from fgvc_jax.training.precomputed import teacher
from fgvc_jax.training.precomputed.store import Store
from fgvc_jax.training.run import Run
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import storage

pytestmark = pytest.mark.slow

STUDENTS = {
    "frozen": Network(name="resnet_micro", head_width=16, frozen="stage3"),
    "resnet_micro": Network(name="resnet_micro", head_width=16),
    "vgg_micro": Network(name="vgg_micro", head_width=16),
    **{
        name: Network(name=name, head="linear")
        for name in (
            "vit_micro",
            "convnext_micro",
            "swin_micro",
            "dinov2_micro",
            "dinov3_micro",
            "efficientnet_micro",
        )
    },
}
WHOLE = {"resize": 32, "crop": 32, "pad": 0, "flip": False}  # every view is the image itself
NO_TRANSFER = Transfer(name="none")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Workdir of two plain members, which see whole images."""
    workdir = tmp_path_factory.mktemp("teachers") / "run"
    data = dataclasses.replace(tiny().data, **WHOLE)
    members.train(tiny(workdir, epochs=1, data=data, transfer=NO_TRANSFER))
    return workdir


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Workdir of one HSD member behind a frozen trunk, at another size and normalisation."""
    workdir = tmp_path_factory.mktemp("others") / "run"
    seen = {"resize": 24, "crop": 24, "pad": 0, "normalize": "imagenet"}
    members.train(
        tiny(
            workdir,
            members=1,
            epochs=1,
            objective="hsd",
            hsd=HSD(fusion_width=8),
            data=dataclasses.replace(tiny().data, **seen),
            network=STUDENTS["frozen"],
        )
    )
    return workdir


def student(workdir, teacher, *, kd=None, data=None, **changes):
    options = {
        "members": 1,
        "objective": "kd",
        "kd": KD(teacher=str(teacher), **(kd or {})),
        "data": dataclasses.replace(tiny().data, **(data or {})),
        "transfer": NO_TRANSFER,
    }
    return tiny(workdir, **options | changes)


def prepared(experiment, member=1):
    """(run with what the teachers say of a member's views, what was told)."""
    run, said = Run(experiment), []
    run.cache.prepare(member, None, said.append)
    return run, said


def taught(run, count=16):
    """(B, K) what the teachers say of the first images in the first view, looked up."""
    return run.cache.train.lookups["taught"](0, np.arange(count))["logits"].astype(np.float32)


def softmax(z):
    return np.asarray(jax.nn.softmax(np.asarray(z, np.float32), axis=-1))


# -- what is said ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", ["probabilities", "logits"])
def test_what_they_say_is_what_the_ensemble_predicts(tmp_path, teachers, fusion):
    shutil.copytree(teachers, tmp_path / "teachers")
    edit(tmp_path / "teachers", fusion=fusion)
    options = {"kd": {"temperature": 1.0}, "data": WHOLE}
    run, _ = prepared(student(tmp_path / "run", tmp_path / "teachers", **options))
    images = [run.images["train"].fetch(np.array([row]))[0] for row in range(16)]
    predicted = fgvc_jax.load(tmp_path / "teachers").predict(images)
    np.testing.assert_allclose(softmax(taught(run)), predicted, atol=2e-3)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_they_see_the_students_crop_at_their_own_size(tmp_path, others):
    """Also behind a trunk of their own, by all of their heads, in another order of classes."""
    shutil.copytree(others, tmp_path / "teachers")
    record = json.loads((tmp_path / "teachers/config.json").read_text())
    edit(tmp_path / "teachers", class_names=record["class_names"][::-1])
    options = {"kd": {"temperature": 1.0}, "data": {"pad": 4}}
    run, _ = prepared(student(tmp_path / "run", tmp_path / "teachers", **options))
    assert tuple(run.splits.classes) == tuple(record["class_names"])
    images, ids = run.images["train"].fetch(np.arange(8)), run.splits.train.ids[:8]
    crops = augment.training_view(
        run.experiment.data.view, augment.image_keys(0, np.zeros(8, int), ids), images
    )
    seen = np.uint8(np.round(255 * np.asarray(augment.resized(crops, 24))))
    predicted = fgvc_jax.load(others).predict(seen)[:, ::-1]
    np.testing.assert_allclose(softmax(taught(run, 8)), predicted, atol=0.01)
    assert np.ptp(predicted, axis=0).max() > 0.05


def edit(workdir, **changes):
    path = workdir / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# -- training --------------------------------------------------------------------------------------


def losses(run, steps, member=1, frozen=()):
    state = run.state(member, [each.variables for _, each in frozen])
    store = run.images["train"].store
    for _, batch in zip(range(steps), run.train_batches(member, 0), strict=False):
        batch = run.cache.complete(devices.shard_batch(run.mesh, batch))
        state, metrics = run.plan(member).train_step(state, batch, store)
        yield jax.device_get(metrics)


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "maps"), list(zip(STUDENTS, itertools.cycle(["online", "precomputed"])))
)
def test_every_student_with_transfer(tmp_path, teachers, others, network, maps):
    experiment = student(
        tmp_path,
        others if network == "resnet_micro" else teachers,
        members=2,
        network=STUDENTS[network],
        transfer=Transfer(maps=maps),
    )
    run = Run(experiment)
    frozen = [("one", run.member(1, run.start.variables(1)))]
    run.cache.prepare(2, attention_before(run, 2, frozen), print)
    *_, metrics = losses(run, 2, member=2, frozen=frozen)
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["orthogonal"] > 0 and metrics["kd"] > 0


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "placement", "augment"),
    [
        ("resnet_micro", "host", "published"),
        ("frozen", "device", "standard"),
        ("resnet_micro", "host", "strong"),
    ],
)
def test_looked_up_or_asked_before_every_step(tmp_path, teachers, network, placement, augment):
    def run_with(gib):
        experiment = student(
            tmp_path / str(gib),
            teachers,
            epochs=5,
            network=STUDENTS[network],
            data={"cache_gib": gib, "views": 3, "placement": placement, "augment": augment},
            optimizer=Optimizer(learning_rate=0.001, head_learning_rate=0.01),
        )
        run, said = prepared(experiment)
        return run, said, list(losses(run, 20))

    kept, _, looked_up = run_with(1.0)
    asking, said, asked = run_with(0.0)
    assert "taught" in kept.cache.train.lookups and not asking.cache.train.lookups
    assert "are more than is left" in said[0] and "asked before every step" in said[0]
    for one, other in zip(looked_up, asked, strict=True):
        for name in ("loss", "cross_entropy", "kd"):
            assert other[name] == pytest.approx(one[name], rel=1e-3)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_features_are_looked_up_while_teachers_are_asked(tmp_path, teachers, monkeypatch):
    """Where one of the two alone is kept, images come along as far as the other needs them."""
    experiment = student(tmp_path, teachers, network=STUDENTS["frozen"])
    both, _ = prepared(experiment)
    wanted = list(losses(both, 2))
    assert both.cache.train.fetch is None
    for gone in ("taught", "features"):
        run, _ = prepared(experiment)
        del run.cache._lookups["train"][gone]
        assert run.cache.train.fetch and run.cache.train.lookups.keys() != {gone}
        for one, other in zip(wanted, losses(run, 2), strict=True):
            assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)


# -- what is kept ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_kill_in_the_pass_computes_nothing_twice(tmp_path, teachers, monkeypatch):
    experiment = student(tmp_path / "run", teachers, epochs=3)
    uninterrupted = members.train(dataclasses.replace(experiment, workdir=str(tmp_path / "other")))
    make, made = Store.make, []

    def killed(self, view, parts, *, write):
        if len(made) == 2:
            raise KeyboardInterrupt
        make(self, view, parts, write=write)
        made.append(view)

    monkeypatch.setattr(Store, "make", killed)
    with pytest.raises(KeyboardInterrupt):
        members.train(experiment)
    made.clear()
    monkeypatch.setattr(Store, "make", lambda *a, **k: (made.append(a[1]), make(*a, **k)))
    resumed = members.train(experiment)
    assert made == [2]
    assert resumed["digests"] == uninterrupted["digests"]  # of the members' variables too
    files = [sorted((tmp_path / name / "precomputed").iterdir()) for name in ("run", "other")]
    assert len(files[0]) == 3 and [path.name for path in files[0]] == [p.name for p in files[1]]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_teachers_that_changed_are_not_served(tmp_path, teachers):
    """Of equal size and at the same place: neither their old answers, nor to a student begun."""
    shutil.copytree(teachers, tmp_path / "teachers")
    experiment = student(tmp_path / "run", tmp_path / "teachers", epochs=1)
    results = members.train(experiment)
    first, told = prepared(experiment)
    assert told == [] and results["digests"]["teacher"] == first.record.digests["teacher"]

    one, two = (tmp_path / "teachers" / "members" / n / "final" for n in ("01", "02"))
    storage.remove(one)
    shutil.copytree(two, one)
    second, told = prepared(experiment)
    assert "answers of the teachers of 32 train images" in told[0]
    assert np.abs(taught(first) - taught(second)).max() > 0.01
    numbers = [run.record.training(1, []) for run in (first, second)]
    assert numbers[0] != numbers[1]
    (tmp_path / "run" / "results.json").unlink()
    with pytest.raises(UserError, match="begun with other teachers"):
        members.train(experiment)


def test_images_that_the_teachers_were_trained_on_are_counted(tmp_path, teachers, capsys):
    """A student that splits off a validation part took it from the teachers' training images."""
    apart = student(tmp_path / "apart", teachers, data={"validation": 0.25})
    run = Run(apart)
    assert run.seen_by_teachers == {"test": 0, "validation": len(run.splits.validation)}
    (said,) = summary.of_teachers(run)
    total = len(run.splits.validation)
    assert said.startswith(f"{total} of {total} validation images were training images of the")
    assert Run(student(tmp_path / "same", teachers)).seen_by_teachers == {"test": 0}

    older = tmp_path / "older"
    shutil.copytree(teachers, older)
    (older / "training_images.npy").unlink()
    assert summary.of_teachers(Run(student(tmp_path / "same", older))) == []
    said = summary.of_teachers(Run(dataclasses.replace(apart, kd=KD(teacher=str(older)))))
    assert len(said) == 2 and all("does not tell which images" in line for line in said)


@pytest.mark.slow
def test_streamed_images_that_they_answered_for_are_known_by_contents(tmp_path, teachers):
    experiment = student(tmp_path / "run", teachers, data={"placement": "stream"})
    known = Run(experiment).record.digests
    assert known["train"]["contents"] and not known["test"]["contents"]


@pytest.mark.slow
def test_seeds_share_what_is_said(tmp_path, teachers):
    data = {"cache": str(tmp_path / "shared"), "view_seed": 5}
    for seed, told in ((0, 2), (1, 0)):
        assert len(prepared(student(tmp_path / "run", teachers, seed=seed, data=data))[1]) == told
    options = {"kd": {"temperature": 9.0}, "data": data}
    assert len(prepared(student(tmp_path / "run", teachers, **options))[1]) == 2


@pytest.mark.exhaustive
@pytest.mark.slow
def test_teachers_may_move_and_a_finished_student_needs_none(tmp_path, teachers, capsys):
    shutil.copytree(teachers, tmp_path / "here")
    experiment = student(tmp_path / "run", tmp_path / "here", epochs=1)
    results = members.train(experiment)
    (tmp_path / "here").rename(tmp_path / "there")
    members.train(experiment)
    assert "nothing to do" in capsys.readouterr().out
    moved = dataclasses.replace(experiment.kd, teacher=str(tmp_path / "there"))
    again = members.train(dataclasses.replace(experiment, kd=moved))
    assert again["digests"] == results["digests"]
    assert fgvc_jax.load(tmp_path / "run").predict(np.zeros((1, 36, 36, 3), np.uint8)).shape


# -- who is refused --------------------------------------------------------------------------------


def test_the_students_own_workdir(teachers):
    with pytest.raises(UserError, match="is the --workdir of the student itself"):
        members.train(student(teachers, f"{teachers}/../run"))


@pytest.mark.parametrize(
    ("changes", "kd", "words"),
    [
        ({"class_names": ["a", "b\n", "c", "d"]}, {}, r"other classes \(missing: .*'b\\n'"),
        ({"members": 3}, {}, "2 of 3 members trained: .* --kd.members 2"),
        ({}, {"members": 5}, "2 of 5 members trained"),
        ({}, {"which": "selected"}, "no validation part, .*: take --kd.which final"),
    ],
)
def test_teachers_that_do_not_fit(tmp_path, teachers, changes, kd, words):
    shutil.copytree(teachers, tmp_path / "teachers")
    edit(tmp_path / "teachers", **changes)
    with pytest.raises(UserError, match=words) as error:
        members.train(student(tmp_path / "run", tmp_path / "teachers", kd=kd))
    assert "--kd.teacher" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_no_teachers_at_all(tmp_path):
    with pytest.raises(UserError, match="is no workdir of a run"):
        members.train(student(tmp_path / "run", tmp_path / "nowhere"))
    assert not (tmp_path / "run").exists()


def test_classes_are_the_same_in_another_form_of_their_accents():
    known, classes = ["tea", "caf\u00e9", "bar"], ["bar", "cafe\u0301", "tea"]
    assert teacher._columns(known, classes, "--kd.teacher").tolist() == [2, 1, 0]
