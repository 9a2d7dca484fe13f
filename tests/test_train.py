"""The commands end to end on tiny networks: train, resume, refuse, judge."""

import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time

import jax
import numpy as np
import pytest
from conftest import ROOT, command, finish, tiny
from PIL import Image
from safetensors.numpy import save_file

import fgvc_jax
from fgvc_jax import config
from fgvc_jax.commands import evaluate, train
from fgvc_jax.config import Data, Network, Optimizer, Transfer, differences
from fgvc_jax.evaluation import results_table
from fgvc_jax.training import loop, members, summary
from fgvc_jax.training.measured import MORE_MEMBERS
from fgvc_jax.training.run import Run
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir.checkpoint import Checkpoints, load_final
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.thumbnails import Thumbnails

TINY = ["--config", ROOT / "configs/tiny.py"]


run = members.train


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One uninterrupted run with its results; the last of its steps is saved, too."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    data = dataclasses.replace(tiny().data, validation=0.25)
    return workdir, run(tiny(workdir, data=data, save_every=3, keep_checkpoints=True))


def test_the_files_that_a_run_leaves(finished):
    workdir, results = finished
    assert json.loads((workdir / "results.json").read_text()) == results
    assert Workdir(str(workdir)).record().experiment.members == 2
    for member in ("01", "02"):
        folder = workdir / "members" / member
        assert (folder / "final").is_dir() and (folder / "checkpoints").is_dir()
        assert list((folder / "tensorboard").iterdir())
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if "loss" in line]
        expected = {"step", "epoch", "loss", "accuracy", "cross_entropy", "orthogonal",
                    "learning_rate", "images_per_second"}  # fmt: skip
        assert expected <= steps[0].keys()
        assert [line["step"] for line in steps] == [2, 3, 5, 6] or steps[-1]["step"] == 6
        assert all(np.isfinite(value) for line in lines for value in line.values())
        # The first member has nobody to differ from, the second has.
        assert all((line["orthogonal"] > 0) == (member == "02") for line in steps)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_student_without_a_config_is_trained_as_its_teachers_were(finished, tmp_path):
    """And goes on by its workdir alone."""
    teacher, _ = finished
    words = ["--objective", "kd", "--kd.teacher", str(teacher), "--epochs", "1"]
    results = run(train.experiment_of([*words, "--workdir", str(tmp_path / "student")]))
    saved, theirs = (Workdir(path).record() for path in (tmp_path / "student", teacher))
    assert len(results["members"]) == 1 and saved.digests["data"] == theirs.digests["data"]
    assert {change.flag for change in differences(theirs.experiment, saved.experiment)} == {
        "--members", "--objective", "--epochs", "--data.views", "--transfer.name", "--kd.teacher"
    }  # fmt: skip
    assert run(train.experiment_of([str(tmp_path / "student")])) == results


def test_results_have_the_promised_keys(finished):
    workdir, results = finished
    record = Workdir(workdir).record()
    assert results["classes"] == len(record.classes) == 4
    assert results["class_names"] == list(record.classes)
    assert results["digests"]["data"] == record.digests["data"]
    assert results["digests"]["weights"] is None and len(record.digests["data"]) == 64
    assert len(results["digests"]["training"]) == len(results["digests"]["members"]) == 2
    assert results["images"] == {"train": 24, "validation": 8, "test": 100}
    assert len(results["members"]) == len(results["ensemble"]) == 2
    for member in results["members"]:
        assert {"final", "selected", "best_on_test"} <= member.keys()
        assert member["final"] <= member["best_on_test"]
        assert member["selected"] <= member["best_on_test"]
    assert results["ensemble"][0] == results["members"][0]["final"]
    assert np.shape(results["attention_overlap"]) == (2, 2)
    assert {"jax", "devices", "commit", "dtype"} <= results["environment"].keys()


def test_the_members_differ(finished):
    workdir, _ = finished
    one, two = (final(workdir, n) for n in (1, 2))
    different = jax.tree.map(lambda a, b: not np.array_equal(a, b), one, two)
    assert any(jax.tree.leaves(different))


def final(workdir, number):
    run = Run(Workdir(str(workdir)).record().experiment)
    like = run.plan(number).architecture.variables
    return load_final(Workdir(str(workdir)).final(number), like, run.mesh)


def last_state(workdir, number):
    run = Run(Workdir(str(workdir)).record().experiment)
    like = run.state(number, []).saved()
    checkpoints = Checkpoints(Workdir(str(workdir)).member(number) / "checkpoints", run.mesh)
    return checkpoints.restore(like)


def test_the_same_command_again_does_nothing(finished, capsys):
    workdir, results = finished
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}
    train.main([*map(str, TINY), "--workdir", str(workdir), "--data.validation", "0.25"])
    assert "nothing to do" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()} == before


def test_one_member_on_a_frozen_network_ends_with_what_more_bring(monkeypatch):
    solved = config.solved(tiny(), "linear")
    frozen = tiny(members=1, network=Network(name="resnet_micro", frozen="stage4"))
    for one in (solved, frozen):
        told = train.more_members(one)
        assert told.startswith("more:    ") and " ".join(told[9:].split()) == MORE_MEMBERS
        assert max(map(len, told.splitlines())) <= 100
    others = tiny(members=1), dataclasses.replace(frozen, members=2)
    assert [train.more_members(each) for each in others] == ["", ""]
    monkeypatch.setattr(train, "MORE_MEMBERS", "")
    assert train.more_members(solved) == ""


def test_another_experiment_is_refused_and_nothing_is_touched(finished):
    workdir, _ = finished
    before = (workdir / "config.json").read_text()
    other = tiny(workdir, epochs=3, transfer=Transfer(alpha=0.1))
    with pytest.raises(UserError, match=r"--epochs 2 -> 3.*--transfer.alpha 0.5 -> 0.1"):
        run(other)
    assert (workdir / "config.json").read_text() == before


def test_a_third_member_joins_two(finished, tmp_path):
    """The first two are kept as they are, and the third is what it would have been at once."""
    workdir, two = finished
    shutil.copytree(workdir, tmp_path / "grown")
    data = dataclasses.replace(tiny().data, validation=0.25)
    grown = run(tiny(tmp_path / "grown", members=3, data=data))
    assert grown["ensemble"][:2] == two["ensemble"]
    assert len(grown["members"]) == 3


def test_evaluate_agrees_with_training(finished, capsys):
    workdir, results = finished
    evaluate.main(["--workdir", str(workdir), "--json", "True", "--batch-size", "7"])
    judged = json.loads(capsys.readouterr().out)
    assert judged["ensemble"] == results["ensemble"]
    assert [m["final"] for m in judged["members"]] == [m["final"] for m in results["members"]]
    np.testing.assert_allclose(judged["attention_overlap"], results["attention_overlap"], rtol=1e-4)
    assert judged["metrics"] == results["metrics"]
    assert judged["calibration"] == results["calibration"]


def test_metrics_are_of_the_members_and_the_ensembles(finished):
    _, results = finished
    for group in ("members", "ensemble"):
        assert len(results["metrics"][group]) == 2
        for found, accuracy in zip(
            results["metrics"][group],
            results["ensemble"]
            if group == "ensemble"
            else [m["final"] for m in results["members"]],
            strict=True,
        ):
            assert found["accuracy"]["value"] == accuracy
            assert found["ece"]["low"] is None  # the calibration error has no interval
            ends = [(m["low"], m["value"], m["high"]) for n, m in found.items() if n != "ece"]
            assert all(low <= value <= high for low, value, high in ends)
    assert 0 < results["metrics"]["ensemble"][1]["disagreement"]["value"] < 1
    text = results_table.results_table(results)
    assert "answered at 5% seen risk" in text and "8 validation images: temperature" in text


def test_the_calibration_is_kept_and_used(finished):
    workdir, results = finished
    (entry,) = json.loads((workdir / "calibration.json").read_text())
    assert entry["of"]["members"] == results["digests"]["members"]
    model = fgvc_jax.load(workdir)
    assert model.calibration.temperature == results["calibration"]["temperature"]
    assert model.calibration.images == results["images"]["validation"] == 8
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8)
    raw, calibrated = (model.predict(image, calibrated=c).astype(float) for c in (False, True))
    powers = raw ** (1 / model.calibration.temperature)
    np.testing.assert_allclose(calibrated, powers / powers.sum(), rtol=1e-5)


@pytest.mark.slow
def test_members_by_another_epoch_are_calibrated_by_their_own_answers(finished, tmp_path):
    """Which are not kept at the end of training: evaluate asks for them, on validation too."""
    shutil.copytree(finished[0], tmp_path / "run")
    with pytest.raises(UserError, match="fgvc_jax.evaluate keeps them"):
        _ = fgvc_jax.load(tmp_path / "run", which="selected").calibration
    judged = evaluate.evaluate(evaluate.Evaluation(workdir=str(tmp_path / "run"), which="selected"))
    fitted = fgvc_jax.load(tmp_path / "run", which="selected").calibration
    assert fitted.temperature == judged["calibration"]["temperature"]
    assert len(json.loads((tmp_path / "run/calibration.json").read_text())) == 2


@pytest.mark.exhaustive
@pytest.mark.slow
def test_several_views_are_judged_beside_the_plain_answers_and_calibrated(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    kept = {p: p.read_bytes() for p in (tmp_path / "run/predictions").rglob("*.npy")}
    both = evaluate.evaluate(evaluate.Evaluation(workdir=str(tmp_path / "run"), tta="flip"))
    seen = both.pop("tta")["flip"]
    plain = {name: finished[1][name] for name in ("ensemble", "metrics", "calibration")}
    assert {name: both[name] for name in plain} == plain
    assert all(path.read_bytes() == before for path, before in kept.items())
    images = sorted(f.name for f in (tmp_path / "run/predictions").iterdir())
    assert [name.rpartition("-")[0] for name in images] == [
        "neighbours", "test", "test-flip", "validation", "validation-flip"
    ]  # fmt: skip
    model = fgvc_jax.load(tmp_path / "run").with_tta("flip")
    assert model.calibration.temperature == seen["calibration"]["temperature"]
    assert len(seen["members"]) == 2 and seen["metrics"] != plain["metrics"]


def test_every_test_image_has_a_thumbnail(finished):
    workdir, results = finished
    kept = Thumbnails(workdir / "predictions" / results["predictions"]["test"], 100)
    assert {Image.open(io.BytesIO(picture)).size for picture in kept} == {(36, 36)}


def test_evaluate_refuses_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match="no config.json"):
        evaluate.main(["--workdir", str(tmp_path)])


def same(one, other):
    equal = jax.tree.map(lambda a, b: np.array_equal(a, b), one, other)
    return all(jax.tree.leaves(equal))


@pytest.mark.slow
def test_killed_and_continued_equals_uninterrupted(finished, tmp_path):
    """SIGKILL in the middle of the first member: parameters, statistics, optimizer and results are
    the uninterrupted run's bit for bit."""
    workdir, results = finished
    arguments = [*TINY, "--workdir", tmp_path / "run", "--data.validation", "0.25",
                 "--save-every", "1", "--keep-checkpoints"]  # fmt: skip
    process = command("train", *arguments)
    checkpoints = tmp_path / "run/members/01/checkpoints"
    while process.poll() is None and not (checkpoints / "3").exists():
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (tmp_path / "run/results.json").exists()
    code, out, err = finish(command("train", *arguments))
    assert code == 0, err
    assert "continues at step" in out
    for number in (1, 2):
        assert same(last_state(tmp_path / "run", number), last_state(workdir, number))
        assert same(final(tmp_path / "run", number), final(workdir, number))
    continued = json.loads((tmp_path / "run/results.json").read_text())
    for key in ("members", "ensemble", "attention_overlap", "images"):
        assert continued[key] == results[key]


@pytest.mark.slow
def test_a_finished_member_leaves_no_checkpoints(tmp_path, monkeypatch):
    """Nor where it was killed before they were removed."""
    chosen = tiny(tmp_path / "run", members=1, epochs=1, save_every=1)
    checkpoints = tmp_path / "run/members/01/checkpoints"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(members, "_drop_checkpoints", interrupt)
        run(chosen)
    assert list(checkpoints.iterdir())
    run(dataclasses.replace(chosen, keep_checkpoints=True))
    assert list(checkpoints.iterdir())
    (tmp_path / "run/results.json").unlink()
    run(chosen)
    assert not checkpoints.exists()


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "every", "steps"), [(30, 0, set()), (0, 0, {"12", "16"}), (30, 7, {"7", "14"})]
)
def test_short_epochs_are_not_all_saved(tmp_path, monkeypatch, seconds, every, steps):
    """Four epochs of four steps; the newest two checkpoints stay."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_SAVES", seconds)
    run(tiny(tmp_path / "run", members=1, epochs=4, save_every=every, keep_checkpoints=True))
    checkpoints = tmp_path / "run/members/01/checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == steps


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_continue(tmp_path, number, code):
    process = command("train", *TINY, "--workdir", tmp_path / "run", "--epochs", 500)
    metrics = tmp_path / "run/members/01/metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.05)
    process.send_signal(number)
    exit_code, _, err = finish(process)
    assert exit_code == code
    assert "saved at step" in err and "the same command continues" in err
    assert "Traceback" not in err
    saved = [int(p.name) for p in (tmp_path / "run/members/01/checkpoints").iterdir()]
    assert f"saved at step {max(saved)} " in err


@pytest.mark.slow
def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(tmp_path):
    experiment = tiny(
        tmp_path / "run", optimizer=Optimizer(learning_rate=1e30, head_learning_rate=1e30),
        save_every=1,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"is not finite at step \d+.*learning-rate"):
        run(experiment)
    with pytest.raises(UserError):
        run(experiment)
    for folder in (tmp_path / "run/members/01/checkpoints").iterdir():
        state = last_state(tmp_path / "run", 1)
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state)), folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": Data(source="folder:nowhere")}, "nowhere"),
        ({"data": Data(source="cubs:x")}, "cubs"),
        ({"network": Network(name="resnet52")}, "did you mean"),
        ({"network": Network(name="resnet18", weights="missing.safetensors")}, "missing"),
        ({"batch_size": 1000}, "--batch-size"),
    ],
)
def test_bad_input_is_told_before_anything_is_written(tmp_path, changes, words):
    experiment = tiny(tmp_path / "run", **changes)
    with pytest.raises(UserError, match=words):
        run(experiment)
    assert not (tmp_path / "run").exists()


def test_weights_of_another_network_are_told_before_anything_is_written(tmp_path):
    file = tmp_path / "other.safetensors"
    save_file({"layer.weight": np.zeros((2, 2), np.float32)}, file)
    network = Network(name="resnet_micro", head_width=16, weights=str(file))
    with pytest.raises(UserError, match=r"other\.safetensors"):
        run(tiny(tmp_path / "run", network=network))
    assert not (tmp_path / "run").exists()


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path):
    code, out, err = finish(command("train", "--workdir", tmp_path / "run", "--mebers", 3))
    assert (code, out) == (2, "")
    assert err == "error: unknown argument '--mebers': did you mean --members?\n"
    code, _, err = finish(command("train", *TINY, "--data.source", "folder:/no/such/place",
                                  "--workdir", tmp_path / "run"))  # fmt: skip
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1
    assert not os.path.exists(tmp_path / "run")


def test_a_workdir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is not a folder"):
        run(tiny(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_validation_images_come_off_the_training_images():
    with_part = Run(tiny(data=dataclasses.replace(tiny().data, validation=0.25))).splits
    without = Run(tiny()).splits
    parts = [set(p.ids.tolist()) for p in (with_part.train, with_part.validation, with_part.test)]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert parts[0] | parts[1] == set(without.train.ids.tolist())
    assert differences(tiny(), tiny()) == []


@pytest.mark.slow
def test_what_the_heads_of_an_objective_add_is_told():
    """ResNet-50 and its linear head for K classes have 23,508,032 + 2049 K parameters; a head on an
    intermediate stage of C channels has 2 C of batch norm and (C + 1) K."""
    network = Network(name="resnet50", head="linear")
    experiment = tiny(objective="hsd", network=network)
    classes = len(Run(experiment).splits.classes)
    plain = 23_508_032 + 2049 * classes
    stage3, stage4 = (100 * (2 * c + (c + 1) * classes) / plain for c in (512, 1024))
    told = summary.describe(Run(experiment))
    assert f"23.5 M parameters, stage3 +{stage3:.1f}%, stage4 +{stage4:.1f}%, fusion +" in told
    assert "M parameters), ce" in summary.describe(Run(tiny(network=network)))


def test_a_commit_is_dirty_where_the_package_changed_alone(tmp_path, monkeypatch):
    """A study that writes to a ledger in the checkout has not changed what runs."""
    package = tmp_path / "package"
    package.mkdir()
    for name in ("package/code.py", "ledger.jsonl"):
        (tmp_path / name).write_text("before\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(summary, "__file__", str(package / "training" / "summary.py"))
    commit = summary.commit()
    assert re.fullmatch("[0-9a-f]{40}", commit)
    (tmp_path / "ledger.jsonl").write_text("after\n")
    assert summary.commit() == commit
    (tmp_path / "beside.py").write_text("new\n")
    assert summary.commit() == commit
    (package / "more.py").write_text("untracked\n")
    assert summary.commit() == f"{commit}-dirty"
    (package / "more.py").unlink()
    (package / "code.py").write_text("after\n")
    assert summary.commit() == f"{commit}-dirty"
