"""Members that are solved: from a run's images to its answers, as for every run."""

import dataclasses

import numpy as np
import pytest
from conftest import tiny
from PIL import Image

import fgvc_jax
from fgvc_jax import config
from fgvc_jax.commands import report
from fgvc_jax.commands.asked import Report
from fgvc_jax.config import Network, Transfer
from fgvc_jax.evaluation import error_analysis
from fgvc_jax.objectives import Linear
from fgvc_jax.training import experiments, members
from fgvc_jax.training.precomputed.store import Store
from fgvc_jax.training.prepared import open_dataset
from fgvc_jax.training.run import Run
from fgvc_jax.utils.errors import Interrupted, UserError
from fgvc_jax.workdir import journal, storage
from fgvc_jax.workdir.finished import FinishedRun


def solved(workdir, objective="linear", network="resnet_micro", **changes):
    data = dataclasses.replace(tiny().data, **changes.pop("data", {}))
    start = dataclasses.replace(tiny(workdir, **changes), network=Network(name=network), data=data)
    return config.solved(start, objective)


# The pooling, and what is between it and the classes, differ.
@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("objective", "network", "view"),
    [
        ("linear", "resnet_micro", {}),
        ("linear", "vit_micro", {"test_view": "whole", "resize": 40}),
        ("linear", "convnext_micro", {}),
        ("knn", "resnet_micro", {"test_view": "whole", "resize": 40}),
    ],
)
def test_the_head_sees_what_it_was_solved_for(objective, network, view, tmp_path):
    experiment = solved(tmp_path / "run", objective, network, data=view)
    results = members.train(experiment)
    train = open_dataset(experiment).train
    given = [train[i]["image"] for i in range(len(train))]
    model = fgvc_jax.load(tmp_path / "run")
    answers = model.predict(given)
    right = answers[np.arange(len(given)), train.labels]
    (line,) = journal.read(tmp_path / "run/members/01/metrics.jsonl")
    if objective == "linear":
        assert (answers.argmax(-1) == train.labels).mean() == line["accuracy"]
        assert -np.log(right).mean() == pytest.approx(line["cross_entropy"], abs=2e-3)
    else:  # an image votes for itself, with the weight of the nearest
        assert (right > 1 / 21 / len(model.classes)).all()
        assert (answers.argmax(-1) == train.labels).mean() > 1 / len(model.classes)
    known = model.novelty
    assert known.kind == f"{len(given)} held-out images" and not known.chosen  # of four classes
    assert ((known.typicality(known.known) > 0) & np.isfinite(known.known)).all()
    (scores,) = results["members"]
    assert results["ensemble"] == [scores["final"]]
    assert scores["selected"] is None and scores["best_on_test"] is None


@pytest.mark.exhaustive
@pytest.mark.slow
def test_new_classes_are_told_by_what_told_classes_that_were_left_out(tmp_path):
    members.train(solved(tmp_path / "run", data={"classes": 8}))
    model = fgvc_jax.load(tmp_path / "run")
    known = model.novelty
    assert sorted(known.chosen) == ["distance", "energy", "max_logit"]
    assert known.score == max(known.chosen, key=known.chosen.get)
    assert model.typicality(np.zeros((32, 32, 3), np.uint8)).shape == (1,)


@pytest.mark.slow
def test_interrupted_and_started_again_it_ends_as_uninterrupted(tmp_path, monkeypatch, capsys):
    whole = members.train(solved(tmp_path / "whole"))

    class Impatient(Linear):
        def solve(self, *args, watch, **options):
            return super().solve(*args, watch=lambda said: stop(said, watch), **options)

    def stop(said, watch):
        if said.endswith("0.1"):
            raise Interrupted(2, "asked for")

    experiment = solved(tmp_path / "run")
    with pytest.raises(Interrupted):
        members.train(dataclasses.replace(experiment, linear=Impatient()))
    monkeypatch.setattr(Store, "make", lambda *_, **__: pytest.fail("the embeddings were kept"))
    again = members.train(experiment)
    assert again["digests"]["members"] == whole["digests"]["members"]
    capsys.readouterr()
    members.train(experiment)
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.exhaustive
@pytest.mark.slow
def test_with_a_validation_part_it_is_calibrated_and_nothing_was_selected(tmp_path):
    results = members.train(solved(tmp_path / "run", data={"validation": 0.25}))
    assert results["calibration"]["temperature"] > 0
    with pytest.raises(UserError, match="was solved, not trained by epochs: take --which final"):
        fgvc_jax.load(tmp_path / "run", which="selected")


@pytest.mark.slow
def test_without_one_the_images_that_were_held_out_calibrate_it(tmp_path):
    results = members.train(solved(tmp_path / "run", data={"images_per_class": 15}))
    found = results["calibration"]
    assert (found["images"], found["part"]) == (60, "held_out")
    assert found["about"][0].startswith("calibrated on 60 held-out images: temperature")
    model = fgvc_jax.load(tmp_path / "run")
    assert model.calibration.temperature == found["temperature"]
    assert model.calibration_store.fitted_to.part == "held_out"


@pytest.mark.slow
def test_a_report_doubts_training_labels_by_what_was_held_out(tmp_path, monkeypatch):
    members.train(solved(tmp_path / "run", data={"images_per_class": 15}))
    monkeypatch.setattr(error_analysis, "PLAUSIBLE", 0.2)
    page, numbers, _ = report.report(
        Report(workdir=str(tmp_path / "run"), output=str(tmp_path / "report.html"))
    )
    doubted = storage.read_json(numbers)["doubted_training_labels"]
    train = open_dataset(tiny(data=solved("", data={"images_per_class": 15}).data)).train
    labels = dict(zip(train.names, train.labels.tolist(), strict=True))
    assert doubted and all(labels[each["name"]] == each["label"] for each in doubted)
    assert all(each["suggested"] != each["label"] for each in doubted)
    assert [each["name"] for each in doubted if "row" not in each] == []  # so few are all kept
    section = (
        page.read_text().partition("Doubted in the training part")[2].partition("</section")[0]
    )
    assert section.count("<figure") == min(len(doubted), 48) and "no picture" not in section
    assert all(each["name"] in section for each in doubted)
    monkeypatch.setattr(error_analysis, "PLAUSIBLE", 0)
    report.report(Report(workdir=str(tmp_path / "run"), output=str(page)))
    found = storage.read_json(numbers)
    assert found["errors"] and found["doubted_labels"] == found["doubted_training_labels"] == []


@pytest.mark.slow
def test_a_report_tells_what_more_photographs_bring_once_the_dataset_has_gone(
    tmp_path, monkeypatch
):
    members.train(solved(tmp_path / "run", data={"images_per_class": 15}))
    monkeypatch.setattr(members, "open_dataset", lambda experiment: pytest.fail("it is gone"))
    run = FinishedRun.of(str(tmp_path / "run"))
    found = run.learning_curve
    assert found["photographs"] == pytest.approx([3, 6, 12]) and found["images"] == 60
    known = run.held_out.log_probabilities(run.identities[0])
    right = (known.argmax(-1) == run.held_out.labels).mean()
    assert found["accuracy"][-1] == pytest.approx(right)
    page, numbers, _ = report.report(
        Report(workdir=str(tmp_path / "run"), output=str(tmp_path / "report.html"))
    )
    assert storage.read_json(numbers)["learning_curve"] == found
    assert "Right by photographs of a class" in page.read_text()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_runs_share_embeddings(tmp_path, monkeypatch):
    data = {"cache": str(tmp_path / "cache")}
    members.train(solved(tmp_path / "linear", data=data))
    monkeypatch.setattr(Store, "make", lambda *_, **__: pytest.fail("these embeddings are there"))
    members.train(solved(tmp_path / "knn", "knn", data=data))


def test_streamed_images_are_known_by_contents():
    """As where a trunk is frozen: others of the same names and sizes get no embeddings of these."""
    known = Run(solved("", data={"placement": "stream"})).record.digests
    assert known["train"]["contents"] and not known["test"]["contents"]


def test_other_groups_hold_out_others(tmp_path):
    """They decide on folds, and so on the member and on what is said of images held out."""

    def record(objective, groups):
        rows = [f"{i}.png,{'ab'[i % 2]},{'test' if i > 5 else 'train'}" for i in range(8)]
        rows = [f"{row},{group}" for row, group in zip(rows, groups, strict=True)]
        table.write_text("\n".join(["path,label,split,group", *rows]))
        data = {"source": f"csv:{table}", "classes": 0, "images_per_class": 0}
        changes = solved("", objective, data=data) if objective else tiny()
        data = dataclasses.replace(changes.data, **data)
        return Run(dataclasses.replace(changes, data=data, batch_size=2)).record

    table = tmp_path / "birds.csv"
    for i in range(8):
        Image.fromarray(np.full((36, 36, 3), 30 * i, np.uint8)).save(tmp_path / f"{i}.png")
    pairs, triples = record("linear", "aabbccde"), record("linear", "aaabbbde")
    assert pairs.others(triples) == "other groups of training images"
    assert pairs.held_out != triples.held_out
    assert pairs.training(1, []) != triples.training(1, [])
    pairs, triples = record("", "aabbccde"), record("", "aaabbbde")  # steps do not see them
    assert pairs.others(triples) == "" and pairs.training(1, []) == triples.training(1, [])


def test_without_room_for_the_embeddings_a_line_says_so(tmp_path):
    with pytest.raises(UserError, match="raise --data.cache-gib"):
        members.train(solved(tmp_path / "run", data={"cache_gib": 0.0}))


@pytest.mark.slow
def test_fewer_images_than_a_batch_are_enough(tmp_path):
    members.train(solved(tmp_path / "run", batch_size=512, data={"images_per_class": 2}))


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["--members", "2"], "--members 2"),
        (["--epochs", "3"], "--epochs 3"),
        (["--transfer.name", "orthogonal"], "--transfer.name orthogonal"),
        (["--optimizer.name", "adamw"], "--optimizer.name adamw"),
        (["--label-smoothing", "0.1"], "--label-smoothing 0.1"),
        (["--network.head", "kt"], "--network.head kt"),
        (["--network.frozen", "stage4"], "--network.frozen stage4"),
    ],
)
def test_what_steps_have_is_refused(arguments, flag):
    with pytest.raises(UserError, match=f"{flag}: --objective linear is solved"):
        experiments.parse(["--config", "kt_quick", "--objective", "linear", *arguments])


def test_any_config_can_be_solved():
    found = experiments.parse(["--config", "kt_quick", "--objective=knn", "--knn.neighbours", "3"])
    assert found == config.solved(found, "knn")
    assert (found.members, found.epochs, found.transfer) == (1, 1, Transfer(name="none"))
