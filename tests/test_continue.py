"""What a second start on a workdir meets: it goes on, adopts, or is refused, and never misreads."""

import dataclasses
import json
import os
import shutil
import signal
import threading
import unicodedata

import numpy as np
import pytest
from conftest import command, finish, tiny
from photographs import photograph
from PIL import Image

import fgvc_jax
from fgvc_jax.commands import evaluate
from fgvc_jax.config import Network, Optimizer, Transfer
from fgvc_jax.data import sources
from fgvc_jax.data.images import decode as decode_image
from fgvc_jax.data.records import Subset
from fgvc_jax.data.sources import open_source
from fgvc_jax.inference.model import open_model
from fgvc_jax.networks import weights
from fgvc_jax.training import evaluator, loop, members
from fgvc_jax.training.best import Best
from fgvc_jax.training.run import Run
from fgvc_jax.utils import signals
from fgvc_jax.utils.errors import Interrupted, InUse, UserError
from fgvc_jax.workdir import predictions, storage
from fgvc_jax.workdir.folder import Workdir

pytestmark = pytest.mark.usefixtures("read_once")

CLASSES = "ant", "bee", "cow"
NO_TRANSFER = Transfer(name="none")


def pictures(folder, classes=CLASSES):
    """A `folder:` dataset: drawn birds under other names."""
    birds = open_source("sketchbirds")
    for part, first, count in (("train", 0, 8), ("test", 8, 4)):
        for label, name in enumerate(classes):
            (folder / part / name).mkdir(parents=True)
            rows = np.flatnonzero(birds.train.labels == label)
            for i in range(count):
                image = Image.fromarray(birds.train[int(rows[first + i])]["image"]).resize((48, 48))
                image.save(folder / part / name / f"{i}.bmp")
    return folder


def experiment(root, name="run", **changes):
    data = changes.pop("data", {})
    data = dataclasses.replace(
        tiny().data, **{"source": f"folder:{root / 'images'}", "classes": 0, **data}
    )
    return tiny(root / name, data=data, **changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("continue")
    pictures(root / "images")
    return root


@pytest.fixture(scope="module")
def finished(root):
    """(experiment, results) of two members with a validation part, finished."""
    chosen = experiment(root, data={"validation": 0.25})
    return chosen, members.train(chosen)


@pytest.fixture
def again(finished, tmp_path):
    """A copy of the finished run, and its experiment there."""
    chosen, _ = finished
    shutil.copytree(chosen.workdir, tmp_path / "run")
    return dataclasses.replace(chosen, workdir=str(tmp_path / "run"))


def stop_in_the_middle(chosen):
    """Train a run up to its first epoch's end, as SIGTERM would."""
    judge = evaluator.Epochs.__call__

    def judged(self, *arguments):
        signal.raise_signal(signal.SIGTERM)
        return judge(self, *arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(evaluator.Epochs, "__call__", judged)
        members.train(chosen)


def answer(out):
    return {name: out[name] for name in ("members", "ensemble", "attention_overlap")}


def nothing_is_trained(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("a member was trained")

    monkeypatch.setattr(members, "train_member", refused)


# -- results and members ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cut_results_file_is_made_again_from_what_was_kept(again, finished, monkeypatch):
    nothing_is_trained(monkeypatch)
    path = Workdir(again.workdir).results
    path.write_text(path.read_text()[:100])
    monkeypatch.setattr(predictions, "fill", lambda *_: pytest.fail("a member was asked again"))
    assert answer(members.train(again)) == answer(finished[1])


def test_a_removed_member_is_trained_again(again, finished):
    """A finished run printed the old table and trained nothing."""
    shutil.rmtree(Workdir(again.workdir).member(2))
    results = members.train(again)
    assert Workdir(again.workdir).final(2).exists()
    assert answer(results) == answer(finished[1])


def test_a_missing_journal_or_record_beside_a_finished_member_is_no_harm(again, finished):
    workdir = Workdir(again.workdir)
    workdir.results.unlink()
    for name in ("metrics.jsonl", "member.json"):
        (workdir.member(1) / name).unlink()
    results = members.train(again)
    assert results["ensemble"] == finished[1]["ensemble"]


def test_a_lost_config_is_made_again_by_the_same_command_alone(again, finished, monkeypatch):
    """Another experiment took the members that lay there for its own."""
    nothing_is_trained(monkeypatch)
    workdir = Workdir(again.workdir)
    for path in (workdir.config, workdir.results):
        path.unlink()
    other = dataclasses.replace(again, epochs=again.epochs + 1)
    with pytest.raises(UserError, match=r"its member 1 is of another experiment"):
        members.train(other)
    assert not workdir.config.exists()
    assert answer(members.train(again)) == answer(finished[1])


def test_a_member_whose_teacher_is_another_now_is_refused(again):
    """It stayed in use, and the results were of members that never met."""
    record = Workdir(again.workdir).member(2) / "member.json"
    saved = json.loads(record.read_text())
    assert len(saved["teachers"]) == 1
    record.write_text(json.dumps(saved | {"teachers": ["of another one"]}))
    Workdir(again.workdir).results.unlink()
    with pytest.raises(UserError, match="member 2 .* was trained against other members"):
        members.train(again)


def begun_by_an_earlier_version(workdir, number):
    """As if what `digests.NUMERICS` says now were other than when the member began."""
    path = Workdir(workdir).member(number) / "member.json"
    saved = json.loads(path.read_text()) | {"numerics": 1, "training": "by an earlier version"}
    path.write_text(json.dumps(saved))
    return saved


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_member_in_the_middle_keeps_to_the_version_that_began_it(root):
    """It went on with other numbers, under the digest of a run that had them from the start."""
    chosen = experiment(root, "begun", members=1, epochs=2, save_every=1, transfer=NO_TRANSFER)
    stop_in_the_middle(chosen)
    path = Workdir(chosen.workdir).member(1) / "member.json"
    began = path.read_text()
    saved = begun_by_an_earlier_version(chosen.workdir, 1)
    with pytest.raises(UserError, match=r"member 1 in .* was begun by a version .* computes step"):
        members.train(chosen)
    assert json.loads(path.read_text()) == saved
    path.write_text(began)
    results = members.train(chosen)
    told = json.loads(path.read_text())
    assert told | json.loads(began) == told and told["variables"]
    assert results["digests"]["training"] == [told["training"]]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_member_without_a_checkpoint_begins_anew(root):
    """With what computes it now; nothing of the former beginning is selected."""
    chosen = experiment(
        root, "young", members=1, epochs=2, data={"validation": 0.25}, transfer=NO_TRANSFER
    )
    stop_in_the_middle(chosen)
    folder = Workdir(chosen.workdir).member(1)
    shutil.rmtree(folder / "checkpoints")
    begun_by_an_earlier_version(chosen.workdir, 1)
    better = {"step": 1, "epoch": 1, "test_accuracy": 2.0, "validation_accuracy": 2.0}
    for name in ("selected", "best_on_test"):
        (folder / f"{name}.json").write_text(json.dumps(better))
    results = members.train(chosen)
    assert results["members"][0]["selected"] <= 1 and results["members"][0]["best_on_test"] <= 1
    assert results["digests"]["training"] == [Run(chosen).record.training(1, [])]


def test_nothing_to_do_tells_what_is_computed_otherwise_now(again, finished, capsys):
    """And does nothing; a member that is added says what itself is computed with."""
    begun_by_an_earlier_version(again.workdir, 2)
    assert members.train(again) == finished[1]
    out = capsys.readouterr().out
    assert "member 2 was trained by a version of this program that computes step otherwise" in out
    assert "member 1 was" not in out and "nothing to do" in out


def test_nothing_to_do_looks_at_teachers_and_weights(again):
    path = Workdir(again.workdir).member(1) / "member.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"variables": "of another one"}))
    with pytest.raises(UserError, match="member 2 .* was trained against other members"):
        members.train(again)
    path.write_text(json.dumps(saved | {"weights": "of another file"}))
    with pytest.raises(UserError, match="member 1 .* was begun with other pretrained weights"):
        members.train(again)


def test_the_selected_epoch_keeps_its_weights(finished, capsys):
    chosen, results = finished
    workdir = Workdir(chosen.workdir)
    lines = [
        json.loads(line)
        for line in (workdir.member(1) / "metrics.jsonl").read_text().splitlines()
        if "validation_accuracy" in line
    ]
    best = max(lines, key=lambda line: line["validation_accuracy"])
    evaluate.main(["--workdir", chosen.workdir, "--which", "selected", "--json"])
    judged = json.loads(capsys.readouterr().out)
    assert judged["members"][0]["final"] == best["test_accuracy"]
    assert results["members"][0]["selected"] == best["test_accuracy"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_what_is_selected_is_no_teacher(root, monkeypatch):
    """Of the first epoch here, other weights than the final ones, which alone teach."""
    monkeypatch.setattr(Best, "improves", lambda self, scores: self.record is None)
    chosen = experiment(root, "first", data={"validation": 0.25})
    results = members.train(chosen)
    workdir = Workdir(chosen.workdir)
    final, selected = (
        open_model(workdir.path, which=which).identities for which in ("final", "selected")
    )
    assert not set(final) & set(selected)
    shutil.rmtree(workdir.member(2))
    shutil.rmtree(workdir.precomputed)
    again = members.train(chosen)
    assert again["digests"]["members"] == results["digests"]["members"] == list(final)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_without_a_validation_part_nothing_is_selected(root, capsys):
    chosen = experiment(root, "plain", members=1, epochs=1)
    assert members.train(chosen)["members"][0]["selected"] is None
    with pytest.raises(UserError, match="no validation part"):
        evaluate.main(["--workdir", chosen.workdir, "--which", "selected"])


def test_the_published_protocol_is_one_labelled_row(finished):
    """Of every member the epoch that is best on the test set; their answers were kept."""
    chosen, results = finished
    row = results["published_protocol"]
    assert row["selected_by"] == "test accuracy"
    assert row["members"] == [member["best_on_test"] for member in results["members"]]
    labels = Run(chosen).splits.test.labels
    kept = storage.map_array(Workdir(chosen.workdir).member(1) / "best_on_test.npy")
    assert np.mean(kept.argmax(-1) == labels) == row["members"][0] == row["ensemble"][0]


def test_final_is_what_the_last_epoch_said(finished):
    """They came from two programs, and differed in bfloat16."""
    chosen, results = finished
    for number, member in enumerate(results["members"], start=1):
        lines = (Workdir(chosen.workdir).member(number) / "metrics.jsonl").read_text().splitlines()
        last = [json.loads(line) for line in lines if "test_accuracy" in line][-1]
        assert last["test_accuracy"] == member["final"]


# -- other data, other weights ---------------------------------------------------------------------


def unfinished(root, name, **changes):
    chosen = experiment(root, name, members=1, epochs=1, **changes)
    members.train(chosen)
    Workdir(chosen.workdir).results.unlink()
    return chosen


@pytest.mark.slow
def test_an_image_that_changed_is_seen(root, tmp_path):
    """One pixel, the size of the file stays."""
    shutil.copytree(root / "images", tmp_path / "images")
    chosen = unfinished(tmp_path, "run")
    file = tmp_path / "images/train/bee/0.bmp"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    before = Workdir(chosen.workdir).config.read_text()
    with pytest.raises(UserError, match="was begun with other train images"):
        members.train(dataclasses.replace(chosen, members=2))
    assert Workdir(chosen.workdir).config.read_text() == before


@pytest.mark.slow
def test_a_class_that_was_added_is_named(root, tmp_path):
    shutil.copytree(root / "images", tmp_path / "images")
    chosen = unfinished(tmp_path, "run")
    for part in ("train", "test"):
        shutil.copytree(tmp_path / f"images/{part}/ant", tmp_path / f"images/{part}/dog")
    with pytest.raises(UserError, match="other classes .new: 'dog'."):
        members.train(chosen)


@pytest.mark.slow
def test_the_dataset_may_move(root, tmp_path):
    shutil.copytree(root / "images", tmp_path / "images")
    chosen = unfinished(tmp_path, "run")
    (tmp_path / "images").rename(tmp_path / "scratch")
    data = dataclasses.replace(chosen.data, source=f"folder:{tmp_path / 'scratch'}")
    assert members.train(dataclasses.replace(chosen, data=data))["ensemble"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_pretrained_weights_that_changed_are_seen(root, tmp_path):
    network = Network(name="resnet_micro", head_width=16)
    start = Run(experiment(root, network=network))
    file = tmp_path / "start.safetensors"
    weights.export_torch(file, start.start.variables(1))
    network = dataclasses.replace(network, weights=str(file))
    shutil.copytree(root / "images", tmp_path / "images")
    chosen = unfinished(tmp_path, "run", network=network)
    assert members.train(chosen)["digests"]["weights"]
    Workdir(chosen.workdir).results.unlink()
    network = dataclasses.replace(network, weights=str(file.rename(tmp_path / "moved.safetensors")))
    chosen = dataclasses.replace(chosen, network=network)
    assert members.train(chosen)["digests"]["weights"]  # wherever they are
    Workdir(chosen.workdir).results.unlink()
    weights.export_torch(network.weights, start.start.variables(2))
    with pytest.raises(UserError, match="begun with other pretrained weights"):
        members.train(chosen)


def test_what_was_settled_is_adopted(again):
    """A workdir begun in float32 went on in bfloat16 elsewhere, and said so of all members."""
    path = Workdir(again.workdir).config
    saved = json.loads(path.read_text())
    assert saved["network"]["dtype"] == "float32" and saved["network"]["pool"] == "max"
    assert saved["data"]["views"] == 2 and saved["data"]["view_sharing"] == "shared"
    assert saved["data"]["orientation"] == "exif" and saved["data"]["decode"] == "scaled"
    saved["network"]["dtype"] = "bfloat16"  # as on an accelerator
    path.write_text(json.dumps(saved))
    adopted = Workdir(again.workdir).continued(again)
    assert adopted.network.dtype == "bfloat16"
    assert fgvc_jax.load(again.workdir).members[0].network.backbone.dtype == "bfloat16"
    explicit = dataclasses.replace(again.network, dtype="float32")
    with pytest.raises(UserError, match="--network.dtype 'bfloat16' -> 'float32'"):
        Workdir(again.workdir).continued(dataclasses.replace(again, network=explicit))


def test_every_member_says_where_it_was_trained(finished):
    for number in (1, 2):
        record = json.loads(
            (Workdir(finished[0].workdir).member(number) / "member.json").read_text()
        )
        assert {"devices", "dtype", "commit"} <= record["environment"].keys()
        assert len(record["training"]) == len(record["variables"]) == 64


def test_a_workdir_inside_the_dataset_is_refused(root):
    """It worked once; then it was a class without images."""
    for place in ("images", "images/runs/one"):
        chosen = dataclasses.replace(experiment(root), workdir=str(root / place))
        with pytest.raises(UserError, match="is inside the dataset, .*: name another"):
            members.train(chosen)
    assert sorted(path.name for path in (root / "images").iterdir()) == ["test", "train"]


# -- views -----------------------------------------------------------------------------------------


def views_of(chosen, member):
    run = Run(chosen)
    batches = run.train_batches(member, 0)
    steps = run.plan(1).total_steps
    return sorted({int(view) for _ in range(steps) for view in next(batches)["view"]})


def test_independent_members_draw_views_of_their_own(root):
    """All members saw the same crop of an image in the same epoch."""
    alone = experiment(root, transfer=Transfer(name="none"))
    assert [views_of(alone, member) for member in (1, 2, 3)] == [[0, 1], [2, 3], [4, 5]]
    taught = experiment(root)
    assert [views_of(taught, member) for member in (1, 2)] == [[0, 1], [0, 1]]
    few = experiment(root, transfer=Transfer(maps="online"), data={"views": 1})
    assert [views_of(few, member) for member in (1, 2)] == [[0], [1]]


def test_views_of_their_own_cannot_be_precomputed(root):
    with pytest.raises(UserError, match="--data.view-sharing own .*--transfer.maps online"):
        members.train(experiment(root, data={"view_sharing": "own"}))


@pytest.mark.parametrize(("orientation", "turned"), [("auto", True), ("stored", False)])
def test_photographs_of_a_folder_are_shown_upright(root, tmp_path, orientation, turned):
    """Their EXIF tag was ignored; this one says that they lie upside down."""
    shutil.copytree(root / "images", tmp_path / "images")
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = np.zeros((48, 48, 3), np.uint8)
    picture[:24] = 255
    for part in ("train", "test"):
        (tmp_path / f"images/{part}/ant/0.bmp").unlink()
        Image.fromarray(picture).save(tmp_path / f"images/{part}/ant/0.png", exif=exif)
    run = Run(experiment(tmp_path, data={"orientation": orientation}))
    for images in (run.images["train"], run.images["test"]):
        (row,) = (i for i, name in enumerate(images.source.names) if name.endswith(".png"))
        (shown,) = images.fetch(np.array([row]))
        assert (shown[0].mean() < shown[-1].mean()) == turned


@pytest.mark.parametrize(("decode", "scaled"), [("auto", True), ("exact", False)])
def test_large_photographs_of_a_folder_are_decoded_at_the_size_that_is_needed(
    root, tmp_path, decode, scaled
):
    shutil.copytree(root / "images", tmp_path / "images")
    large = photograph(0).resize((800, 600))
    for part in ("train", "test"):
        (tmp_path / f"images/{part}/ant/0.bmp").unlink()
        large.save(tmp_path / f"images/{part}/ant/0.jpg")
    run = Run(experiment(tmp_path, data={"decode": decode}))
    model = run.model([], [])
    for name in ("train", "test"):
        found = run.images[name]
        (row,) = (i for i, own in enumerate(found.source.names) if own.endswith(".jpg"))
        (shown,) = found.fetch(np.array([row]))
        side, record = len(shown), found.source[row]
        for way in ("exact", "scaled"):
            square = decode_image(record, side, orientation="exif", decoding=way)
            assert (shown == square).all() == (way == ("scaled" if scaled else "exact"))
    assert (model.square(found.source.path(row)) == shown).all()


def test_a_run_that_was_begun_before_goes_on_decoding_exactly(root):
    chosen = experiment(root, "before", members=1, epochs=1)
    members.train(chosen)
    path = Workdir(chosen.workdir).config
    saved = json.loads(path.read_text())
    assert saved["data"].pop("decode") == "scaled"
    path.write_text(json.dumps(saved))
    workdir = Workdir(chosen.workdir)
    assert workdir.record().experiment.data.decode == "exact"
    assert workdir.continued(chosen).data.decode == "exact"
    assert fgvc_jax.load(chosen.workdir).view.reading["decoding"] == "exact"
    explicit = dataclasses.replace(chosen, data=dataclasses.replace(chosen.data, decode="scaled"))
    with pytest.raises(UserError, match="--data.decode 'exact' -> 'scaled'"):
        workdir.continued(explicit)


def test_there_are_no_more_views_than_epochs(root):
    assert Run(experiment(root, data={"views": 9})).experiment.data.views == 2


def test_more_views_than_epochs_continue(root):
    """They were stored as the epochs, and the same command was another experiment."""
    chosen = experiment(root, "views", members=1, epochs=1, data={"views": 9})
    members.train(chosen)
    assert members.train(chosen)["ensemble"]


def test_a_finished_run_looks_at_data_that_are_said_to_be_elsewhere(again, root, tmp_path):
    """It printed the old table, whatever the source."""
    shutil.copytree(root / "images", tmp_path / "images")
    source = f"folder:{tmp_path / 'images'}"
    moved = dataclasses.replace(again, data=dataclasses.replace(again.data, source=source))
    assert members.train(moved)["source"] == source
    content = (tmp_path / "images/test/ant/0.bmp").read_bytes()
    (tmp_path / "images/test/ant/0.bmp").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    nowhere = dataclasses.replace(again.data, source="folder:/no/such/place")
    with pytest.raises(UserError, match="does not exist"):
        members.train(dataclasses.replace(again, data=nowhere))
    elsewhere = f"folder:{tmp_path / 'images' / '..' / 'images'}"
    other = dataclasses.replace(again.data, source=elsewhere)
    with pytest.raises(UserError, match="begun with other test images"):
        members.train(dataclasses.replace(again, data=other))


def test_a_finished_run_whose_data_changed_says_what(again, root, tmp_path):
    """Five new training images were "nothing to do", the old table, and exit code 0; and with their
    ids, which count on, all test images were others."""
    shutil.copytree(root / "images", tmp_path / "images")
    config = Workdir(again.workdir).config
    source = f"folder:{tmp_path / 'images'}"
    saved = json.loads(config.read_text())
    saved["data"] |= {"source": source, "images_per_class": 0}
    config.write_text(json.dumps(saved))
    data = dataclasses.replace(again.data, source=source, images_per_class=0)
    chosen = dataclasses.replace(again, data=data)
    before = members.train(chosen)
    for i in range(5):
        shutil.copy(tmp_path / "images/train/bee/0.bmp", tmp_path / f"images/train/bee/new{i}.bmp")
    with pytest.raises(
        UserError, match=r"no longer those: it had other train images \(18, now"
    ) as e:
        members.train(chosen)
    assert "test images" not in str(e.value)
    shutil.rmtree(Workdir(again.workdir).predictions)
    with pytest.raises(UserError, match=r"begun with \(other train images \(18, now"):
        evaluate.main(["--workdir", again.workdir])
    shutil.rmtree(tmp_path / "images")
    assert members.train(chosen) == before  # a workdir outlives its dataset


@pytest.mark.slow
def test_a_copy_with_accents_in_another_form_is_the_same_run(tmp_path, monkeypatch):
    """Without a test part: it is split by the names."""
    forms = [
        [unicodedata.normalize(form, name) for name in ("abée", "abé", "abf")]
        for form in ("NFC", "NFD")
    ]
    pictures(tmp_path / "NFC", forms[0])
    (tmp_path / "NFD").mkdir()
    for one, apart in zip(*forms, strict=True):
        shutil.copytree(tmp_path / "NFC/train" / one, tmp_path / "NFD" / apart)
    shutil.rmtree(tmp_path / "NFC/test")
    for one in forms[0]:
        (tmp_path / "NFC/train" / one).rename(tmp_path / "NFC" / one)
    (tmp_path / "NFC/train").rmdir()
    sources = [f"folder:{tmp_path / form}" for form in ("NFC", "NFD")]
    data = {"validation": 0.25, "images_per_class": 0}
    chosen, copy = (
        experiment(tmp_path, data={**data, "source": source}, members=1) for source in sources
    )
    stop_in_the_middle(chosen)
    results = members.train(copy)
    nothing_is_trained(monkeypatch)
    again = members.train(chosen)
    assert answer(again) == answer(results) and again["digests"] == results["digests"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_what_was_known_of_contents_is_not_forgotten(root):
    """Whether images are read at the start depends on where they are decoded to."""
    chosen = experiment(root, "placed", members=1, epochs=1, data={"placement": "host"})
    members.train(chosen)
    path = Workdir(chosen.workdir).config
    before = json.loads(path.read_text())["digests"]
    assert before["train"]["contents"]
    streamed = dataclasses.replace(chosen.data, placement="stream")
    members.train(dataclasses.replace(chosen, members=2, data=streamed))
    assert json.loads(path.read_text())["digests"] == before


def test_another_source_of_the_same_names_is_asked_again(finished, root, tmp_path, capsys):
    """Names and sizes alone would have served the answers for the first one."""
    chosen, _ = finished
    for place in ("one", "two"):
        shutil.copytree(root / "images", tmp_path / place)
    for file in (tmp_path / "two/test").rglob("*.bmp"):
        content = file.read_bytes()
        file.write_bytes(content[:54] + content[54:][::-1])
    for place in ("one", "two"):
        evaluate.main(["--workdir", chosen.workdir, "--source", f"folder:{tmp_path / place}"])
    found = [p.name for p in Workdir(chosen.workdir).predictions.iterdir() if "test" in p.name]
    assert len(found) == 2  # the first is the run's own, by contents


@pytest.fixture
def photos(root, tmp_path):
    """(folder of images, function that makes an experiment on it) of one's own."""
    shutil.copytree(root / "images", tmp_path / "images")

    def on_it(name="run", place="stream", **changes):
        source = f"folder:{tmp_path / 'images'}"
        data = {"placement": place, "source": source, "images_per_class": 0}
        data |= changes.pop("data", {})
        return experiment(tmp_path, name, **{"members": 1, "epochs": 1, "data": data} | changes)

    return tmp_path / "images", on_it


def hidden(file):
    """Have a file that is whole by its ends, and broken inside; what it would be, whole."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)).save(file)
    good = file.read_bytes()
    file.write_bytes(good[:900] + b"????" + good[904:])
    return good


def test_one_broken_image_is_left_out_and_named(photos, caplog):
    folder, on_it = photos
    clean = Run(on_it("clean", place="host")).record.digests
    name = "train/ant/0a.png"
    (folder / name).write_bytes(b"")
    results = members.train(on_it(place="host"))
    (left,) = results["left_out"]
    assert (left["part"], left["name"]) == ("train", name) and "is empty" in left["reason"]
    assert "left out 1 image of 37" in caplog.text and f"{name}' is empty" in caplog.text
    assert results["digests"]["data"] == clean["data"]  # as if the file had never been there
    assert results["images"] == {"train": 24, "validation": 0, "test": 12}
    with pytest.raises(UserError, match=f"^image .*{name}' is empty.*since --data.strict is given"):
        members.train(on_it("strict", data={"strict": True}))
    (folder / name).unlink()  # as the line advises
    assert members.train(on_it(place="host")) == results


def test_what_decoding_finds_is_left_out_before_anything_is_written(photos, caplog):
    folder, on_it = photos
    hidden(folder / "train/ant/x.png")
    run = Run(on_it(place="host"))
    workdir = Workdir(on_it().workdir)
    assert members.leave_out(run, workdir, run.images.look()) == []
    assert len(run.splits.train) == 25
    members.leave_out(run, workdir, run.images.undecodable())
    assert [each.name for each in run.left_out] == ["train/ant/x.png"]
    assert "cannot be decoded" in run.left_out[0].reason and caplog.text.count("left out") == 1
    assert len(run.splits.train) == len(run.images["train"].contents) == 24
    assert run.images.undecodable() == []
    (folder / "train/bee/x.png").write_bytes(b"")  # the look finds one, decoding another
    with pytest.raises(UserError, match="^2 of 38 .*of 38 images at most 1 is left out"):
        members.train(on_it(place="host"))
    assert not workdir.path.exists()


@pytest.mark.slow
def test_a_mended_image_stays_out_of_the_run_that_was_begun_without_it(photos, caplog):
    folder, on_it = photos
    good = hidden(folder / "train/ant/x.png")
    begun = members.train(on_it(place="host"))
    (folder / "train/ant/x.png").write_bytes(good)
    assert members.train(on_it(place="host")) == begun  # which is finished
    caplog.clear()
    more = members.train(on_it(place="stream", members=2))
    assert "begun without 'train/ant/x.png', which can be read now, and goes on" in caplog.text
    assert more["left_out"] == begun["left_out"] and more["images"] == begun["images"]
    assert more["digests"]["members"][0] == begun["digests"]["members"][0]


def test_a_training_image_that_breaks_later_ends_the_workdir_by_name(photos):
    folder, on_it = photos
    members.train(on_it())
    (folder / "train/ant/0.bmp").write_bytes(b"")
    words = r"other train images \(24, now 23\), and 'train/ant/0.bmp' can be read no longer: give"
    with pytest.raises(UserError, match=words):
        members.train(on_it(members=2))


@pytest.mark.slow
def test_a_test_image_that_breaks_later_is_left_out_from_then_on(photos, caplog):
    folder, on_it = photos
    members.train(on_it())
    (folder / "test/ant/0.bmp").write_bytes(b"")
    results = members.train(on_it(members=2))
    assert results["images"]["test"] == len(list((folder / "test").rglob("*.*"))) - 1
    assert [each["name"] for each in results["left_out"]] == ["test/ant/0.bmp"]
    assert "the test images are no longer those" in caplog.text
    shutil.rmtree(Workdir(on_it().workdir).predictions)  # so that it judges anew
    judged = evaluate.evaluate(evaluate.Evaluation(on_it().workdir))
    for key in ("ensemble", "left_out"):
        assert judged[key] == results[key]


@pytest.mark.slow
def test_many_test_images_that_break_later_may_be_removed(photos, caplog):
    folder, on_it = photos
    members.train(on_it())
    gone = [folder / "test/ant/0.bmp", folder / "test/bee/1.bmp"]
    for file in gone:
        file.write_bytes(b"")
    with pytest.raises(UserError, match="^2 of 36 .*0.bmp' is empty"):
        members.train(on_it(members=2))
    for file in gone:
        file.unlink()
    results = members.train(on_it(members=2))
    assert results["images"]["test"] == len(list((folder / "test").rglob("*.*")))
    assert "the test images are no longer those" in caplog.text


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("mend", ["repair", "remove", "leave"])
def test_a_broken_test_image_does_not_end_the_workdir(photos, mend, caplog):
    """Streamed, whole by its ends, and broken inside: the first judging finds it."""
    folder, on_it = photos
    chosen, file = on_it(), folder / "test/ant/new.png"
    good = hidden(file)
    with pytest.raises(UserError, match="new.png' cannot be decoded .*: repair it or remove it"):
        members.train(chosen)
    if mend == "repair":
        file.write_bytes(good[:-12] + good[-12:] * 2)  # of another size
    elif mend == "remove":
        file.unlink()
    results = members.train(chosen)
    there = len(list((folder / "test").rglob("*.*")))
    assert results["images"]["test"] == there - (mend == "leave")
    assert len(results["left_out"]) == (mend == "leave")
    assert "the test images are no longer those" in caplog.text
    assert not Workdir(chosen.workdir).broken.exists()
    (folder / "test/ant/0.bmp").unlink()  # which nobody found broken
    Workdir(chosen.workdir).results.unlink()
    with pytest.raises(UserError, match="begun with other test images"):
        members.train(chosen)


def test_broken_images_are_listed_before_anything_is_written(photos):
    folder, on_it = photos
    for name in ("train/ant/-x.png", "test/ant/y.jpg"):
        (folder / name).write_bytes(b"")
    with pytest.raises(UserError, match="^2 of .* images cannot be used: .*x.png.*y.jpg"):
        members.train(on_it())
    assert not Workdir(on_it().workdir).config.exists()


# -- signals ---------------------------------------------------------------------------------------


@pytest.fixture
def handlers():
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    signals.interrupt()
    yield
    for number, handler in zip(signals.SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.slow
def test_a_young_run_has_a_checkpoint_when_a_batch_system_warns(root, handlers, monkeypatch):
    """SIGUSR1, as Slurm sends it, ended it with nothing kept."""
    chosen = experiment(root, "warned")
    agreed = loop._agreed

    def warned(asked, step):
        if step == 1:
            signal.raise_signal(signal.SIGUSR1)
        return agreed(asked, step)

    monkeypatch.setattr(loop, "_agreed", warned)
    with pytest.raises(Interrupted, match="is saved at step 1 of") as stop:
        members.train(chosen)
    assert stop.value.signal_number == signal.SIGUSR1
    assert (Workdir(chosen.workdir).member(1) / "checkpoints/1").is_dir()


@pytest.mark.slow
def test_a_signal_during_the_last_evaluation_keeps_the_member(root, handlers, monkeypatch):
    """It was lost: the loop had ended when it looked."""
    chosen = experiment(root, "last", epochs=1)
    judged = evaluator.Epochs.__call__

    def interrupted(self, *arguments):
        signal.raise_signal(signal.SIGTERM)
        return judged(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(evaluator.Epochs, "__call__", interrupted)
        with pytest.raises(Interrupted) as stop:
            members.train(chosen)
    assert stop.value.signal_number == signal.SIGTERM
    assert Workdir(chosen.workdir).trained() == 1
    assert len(members.train(chosen)["members"]) == 2


def test_a_signal_during_the_joint_evaluation_leaves_nothing_half(again, handlers, monkeypatch):
    workdir = Workdir(again.workdir)
    workdir.results.unlink()
    shutil.rmtree(workdir.predictions)
    filled = predictions.fill

    def interrupted(*arguments):
        filled(*arguments)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(predictions, "fill", interrupted)
        with pytest.raises(Interrupted):
            members.train(again)
    left = {path.parent.name.partition("-")[0] for path in workdir.predictions.rglob("*.npy*")}
    assert left <= {"neighbours"} and workdir.trained() == 2  # those were whole before
    assert len(members.train(again)["members"]) == 2


def test_training_from_a_thread(root):
    found = []
    chosen = experiment(root, "thread", members=1, epochs=1)
    thread = threading.Thread(target=lambda: found.append(members.train(chosen)))
    thread.start()
    thread.join()
    assert found and found[0]["ensemble"]


# -- two at once -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_start_is_refused_in_one_line(tmp_path, monkeypatch):
    """In the middle of the first one's training, which goes on."""
    words = ["--config", "tiny", "--members", 1, "--epochs", 1, "--workdir", tmp_path / "run"]
    judge, seconds = evaluator.Epochs.__call__, []

    def judged(self, *arguments):
        seconds.append(finish(command("train", *words)))
        return judge(self, *arguments)

    monkeypatch.setattr(evaluator.Epochs, "__call__", judged)
    assert members.train(tiny(tmp_path / "run", members=1, epochs=1))["ensemble"]
    ((code, _, err),) = seconds
    assert code == 2
    assert err.startswith(f"error: workdir '{tmp_path}/run' is in use by process {os.getpid()} on ")
    assert err.count("\n") == 1


def test_a_workdir_in_use_is_judged_and_not_trained(again, capsys):
    workdir = Workdir(again.workdir)
    before = workdir.config.read_text()
    with workdir.lock():
        with pytest.raises(InUse, match=f"is in use by process {os.getpid()} on "):
            members.train(dataclasses.replace(again, members=3))
        evaluate.main(["--workdir", again.workdir])
        assert "test accuracy" in capsys.readouterr().out
        assert fgvc_jax.load(again.workdir).classes == CLASSES
    assert workdir.config.read_text() == before and workdir.results.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_workdir_is_judged_and_says_that_nothing_was_kept(again, caplog, capsys):
    workdir = Workdir(again.workdir)
    shutil.rmtree(workdir.predictions)
    workdir.path.chmod(0o500)
    try:
        evaluate.main(["--workdir", again.workdir])
    finally:
        workdir.path.chmod(0o700)
    assert "nothing is kept" in caplog.text


def test_where_nothing_can_be_written_nothing_is_kept(again, caplog, capsys, monkeypatch):
    workdir = Workdir(again.workdir)
    shutil.rmtree(workdir.predictions)
    monkeypatch.setattr(storage, "writable", lambda folder: False)
    evaluate.main(["--workdir", again.workdir])
    assert "nothing is kept" in caplog.text and "test accuracy" in capsys.readouterr().out
    assert not workdir.predictions.exists()


# -- judged again ----------------------------------------------------------------------------------


def test_what_was_kept_is_judged_without_the_images(root, tmp_path, capsys):
    shutil.copytree(root / "images", tmp_path / "images")
    chosen = experiment(tmp_path, members=1, epochs=1)
    results = members.train(chosen)
    shutil.rmtree(tmp_path / "images")
    capsys.readouterr()
    evaluate.main(["--workdir", chosen.workdir, "--json"])
    assert json.loads(capsys.readouterr().out)["ensemble"] == results["ensemble"]


def test_images_that_changed_are_not_judged_as_the_runs_own(again, root, tmp_path):
    workdir = Workdir(again.workdir)
    shutil.rmtree(workdir.predictions)
    shutil.copytree(root / "images", tmp_path / "images")
    saved = json.loads(workdir.config.read_text())
    saved["data"]["source"] = f"folder:{tmp_path / 'images'}"
    workdir.config.write_text(json.dumps(saved))
    file = tmp_path / "images/test/ant/0.bmp"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match="no longer those .*other test images.*by --source"):
        evaluate.main(["--workdir", again.workdir])
    assert not workdir.predictions.exists()


def test_the_same_classes_in_another_order_are_judged_by_name(finished):
    """They gave 0.33 instead of 1.0."""
    chosen, _ = finished
    test = Run(chosen).splits.test
    turned = Subset(test, np.arange(len(test)))
    turned.labels = (2 - test.labels).astype(np.int32)
    again = sources.with_classes(turned, CLASSES[::-1], CLASSES, "csv:x")
    np.testing.assert_array_equal(again.labels, test.labels)
    with pytest.raises(UserError) as error:
        sources.with_classes(test, ("ant", "bee", *"fghijk"), CLASSES, "csv:x")
    message = str(error.value)
    assert "missing: 'cow'" in message and "'f', 'g', 'h', 'i', 'j' ..." in message
    # Members that know some classes of their dataset are asked for those, wherever they stand.
    some = sources.with_classes(test, CLASSES, CLASSES[:0:-1], "csv:x", some=True)
    kept = test.labels > 0
    np.testing.assert_array_equal(some.ids, test.ids[kept])
    np.testing.assert_array_equal(some.labels, 2 - test.labels[kept])
    assert some[0]["label"] == some.labels[0]


def test_the_training_part_of_another_source_plays_no_role(finished, root, tmp_path, capsys):
    """Fewer training images than the members' batch, none that csdnet could contrast, and none at
    all of a class."""
    chosen, results = finished
    shutil.copytree(root / "images", tmp_path / "images")
    (tmp_path / "images/train/bee/0.bmp").unlink()
    for file in (tmp_path / "images/train").rglob("[1-9].bmp"):
        file.unlink()
    evaluate.main(
        ["--workdir", chosen.workdir, "--source", f"folder:{tmp_path / 'images'}", "--json"]
    )
    assert json.loads(capsys.readouterr().out)["ensemble"] == results["ensemble"]


@pytest.mark.slow
def test_all_images_of_a_source_without_parts_are_judged(finished, root, tmp_path, capsys, caplog):
    """A fifth of them was; and what was known of a class without images was refused."""
    chosen, results = finished
    shutil.copytree(root / "images/test", tmp_path / "new")
    evaluate.main(["--workdir", chosen.workdir, "--source", f"folder:{tmp_path / 'new'}", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == {"test": results["images"]["test"]}
    assert found["ensemble"] == results["ensemble"]
    shutil.rmtree(tmp_path / "new/cow")
    evaluate.main(["--workdir", chosen.workdir, "--source", f"folder:{tmp_path / 'new'}"])
    assert "has none of one class, such as 'cow': they are not judged" in caplog.text


def test_another_source_is_read_as_that_source_says(finished, root, tmp_path, capsys):
    """Photographs that lie on their side, of members whose own set is read as stored."""
    chosen, results = finished
    shutil.copytree(chosen.workdir, tmp_path / "run")
    config = tmp_path / "run/config.json"
    config.write_text(config.read_text().replace('"exif"', '"stored"'))
    exif = Image.Exif()
    exif[0x0112] = 3
    for file in sorted((root / "images/test").rglob("*.bmp")):
        new = tmp_path / "new" / file.parent.name / f"{file.stem}.png"
        new.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).transpose(Image.Transpose.ROTATE_180).save(new, exif=exif)
    arguments = ["--workdir", str(tmp_path / "run"), "--source", f"folder:{tmp_path / 'new'}"]
    evaluate.main([*arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["ensemble"] == results["metrics"]["ensemble"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_training_that_diverges_in_its_very_last_step_is_told(root):
    """It was reported as chance, without a word: the loss before the last update is finite."""
    chosen = experiment(
        root, "diverged", members=1, epochs=1, batch_size=24, transfer=Transfer(name="none"),
        optimizer=Optimizer(learning_rate=1e38, head_learning_rate=1e38, momentum=0.0),
    )  # fmt: skip
    with pytest.raises(UserError, match="not finite.*diverged"):
        members.train(chosen)
    assert not Workdir(chosen.workdir).results.exists()
    assert not Workdir(chosen.workdir).final(1).exists()
