"""A workdir answers for new images without its dataset."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from conftest import tiny
from PIL import Image

import fgvc_jax
from fgvc_jax import ensemble
from fgvc_jax.commands.evaluate import Evaluation, evaluate
from fgvc_jax.data.sources import open_source
from fgvc_jax.evaluation import results_table
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.training import members
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import check
from fgvc_jax.workdir import predictions
from fgvc_jax.workdir.finished import FinishedRun
from fgvc_jax.workdir.folder import Workdir

NAMES = ("b 'quoted', comma", "c <script>", "d\u202eright", "a plain")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two members trained on a folder with difficult class names, which is then gone."""
    root = tmp_path_factory.mktemp("model")
    birds = open_source("sketchbirds")
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 5)):
        for label, name in enumerate(NAMES):
            folder = root / "birds" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                record = birds.train[int(np.flatnonzero(birds.train.labels == label)[i])]
                side = int(rng.integers(40, 60))
                Image.fromarray(record["image"]).resize((side, 45)).save(folder / f"{i}.png")
    data = dataclasses.replace(
        tiny().data, source=f"folder:{root / 'birds'}", classes=0, images_per_class=0
    )
    results = members.train(tiny(root / "run", data=data))
    files = sorted((root / "birds" / "test").rglob("*.png"))
    pictures = [np.asarray(Image.open(file)) for file in files]
    shutil.rmtree(root / "birds")
    return root / "run", results, pictures


@pytest.fixture(scope="module")
def loaded(trained):
    return fgvc_jax.load(trained[0])


def test_the_model_knows_its_classes_and_answers_as_at_the_end_of_training(trained, loaded):
    workdir, results, pictures = trained
    assert loaded.classes == tuple(sorted(NAMES)) == tuple(results["class_names"])
    part = predictions.read(workdir / "predictions" / results["predictions"]["test"])
    kept = [part.log_probabilities(member) for member in results["digests"]["members"]]
    *_, fused = ensemble.growing(kept, "probabilities")
    answered = loaded.predict(pictures)
    assert answered.shape == (20, 4) and answered.dtype == np.float32
    np.testing.assert_allclose(answered.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(answered, np.exp(fused) / np.exp(fused).sum(-1, keepdims=True),
                               rtol=2e-3)  # fmt: skip
    right = np.mean(answered.argmax(-1) == part.labels)
    assert right == results["ensemble"][-1]
    maps = np.stack([part.attention(member) for member in results["digests"]["members"]])
    np.testing.assert_allclose(loaded.attention(pictures), maps, atol=2e-2)


def test_paths_pictures_and_arrays_are_answered_alike(loaded, trained, tmp_path):
    picture = trained[2][3]
    Image.fromarray(picture).save(tmp_path / "a.png")
    wanted = loaded.predict([picture])
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(picture), picture):
        np.testing.assert_array_equal(loaded.predict(image), wanted)
        np.testing.assert_array_equal(loaded.predict([image]), wanted)


def test_an_opened_photograph_is_answered_as_its_file(loaded, trained, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(trained[2][3]).save(tmp_path / "a.jpg", exif=exif)
    deep = np.asarray(Image.fromarray(trained[2][3]).convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "b.png")
    for file in (tmp_path / "a.jpg", tmp_path / "b.png"):
        expected = loaded.predict(file)
        np.testing.assert_array_equal(loaded.predict(Image.open(file)), expected)
        np.testing.assert_array_equal(
            loaded.attention(Image.open(file)), loaded.attention(str(file))
        )


def test_new_photographs_are_turned_unless_they_are_to_be_as_stored(trained, tmp_path):
    """Also where the dataset, as a published one, is read as stored."""
    shutil.copytree(trained[0], tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"exif"', '"stored"'))
    picture = trained[2][3]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    lying, upright = tmp_path / "lying.png", tmp_path / "upright.png"
    Image.fromarray(np.rot90(picture)).save(lying, exif=exif)
    Image.fromarray(picture).save(upright)
    model = fgvc_jax.load(tmp_path / "run")
    assert model.view.orientation == "stored"
    np.testing.assert_array_equal(model.predict(lying), model.predict(upright))
    stored = fgvc_jax.load(tmp_path / "run", orientation="stored")
    np.testing.assert_array_equal(stored.predict(lying), model.predict(np.rot90(picture)))
    with pytest.raises(UserError, match="--orientation is 'sideways'"):
        fgvc_jax.load(tmp_path / "run", orientation="sideways")


def test_a_banner_that_training_images_lack_is_told_once_and_cut_where_asked(
    trained, tmp_path, caplog
):
    shutil.copytree(trained[0], tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    saved = json.loads(config.read_text())
    saved["data"]["source"] = "aircraft:/gone"
    del saved["data"]["banner"]  # as earlier runs have it
    config.write_text(json.dumps(saved))
    picture = trained[2][3]
    below = np.concatenate([picture, np.zeros((20, picture.shape[1], 3), np.uint8)])
    whole = fgvc_jax.load(tmp_path / "run")
    expected = whole.predict(picture)
    whole.predict(picture)
    assert [r.getMessage()[:42] for r in caplog.records] == [
        "warning: 20 rows were cut off the bottom o"
    ]
    caplog.clear()
    cut = fgvc_jax.load(tmp_path / "run", banner=20)
    np.testing.assert_array_equal(cut.predict(below), expected)
    assert not caplog.records


def test_a_model_whose_classes_have_one_name_is_refused(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"a plain"', '"c <script>"'))
    with pytest.raises(UserError, match="calls two classes 'c <script>', number 1 and number 3"):
        fgvc_jax.load(tmp_path / "run")


def test_answers_do_not_depend_on_the_company(loaded, trained):
    pictures = trained[2]
    together = loaded.predict(pictures[:7])
    for i in (0, 6):
        np.testing.assert_allclose(loaded.predict(pictures[i])[0], together[i], rtol=2e-3)


def test_few_programs_serve_all_numbers_of_images(loaded, trained):
    (step,) = {group.step for group in loaded.groups(exact=True, embed=False)}
    step.clear_cache()
    for count in (1, 2, 3, 4, 5, 7, 8, 20):
        loaded.predict(trained[2][:count])
    assert step._cache_size() <= 6  # 1, 2, 4, 8, 16, 32 images


def test_the_likeliest_classes(loaded, trained):
    picture = trained[2][0]
    (best,) = loaded.top(picture, 2)
    probabilities = loaded.predict(picture)[0]
    order = np.argsort(-probabilities)
    assert best == [(loaded.classes[i], float(probabilities[i])) for i in order[:2]]
    assert len(loaded.top(picture, 99)[0]) == 4


def test_the_first_members_alone(trained):
    one = fgvc_jax.load(trained[0], members=1)
    assert len(one.members) == 1 and one.attention(trained[2][:2]).shape[:2] == (1, 2)


@pytest.mark.parametrize("chosen", ["2..2", "2..2,", [2]])
def test_chosen_members_answer_and_are_judged_by_their_numbers(trained, loaded, chosen):
    """Only the first so many could be asked for."""
    workdir, results, pictures = trained
    if chosen == "2..2,":
        with pytest.raises(UserError, match="give how many from the first, or which"):
            fgvc_jax.load(workdir, members=chosen)
        return
    second = fgvc_jax.load(workdir, members=chosen)
    assert second.numbers == (2,) and second.identities == loaded.identities[1:]
    np.testing.assert_array_equal(
        second.attention(pictures[:2]), loaded.attention(pictures[:2])[1:]
    )
    judged = evaluate(Evaluation(str(workdir), members="2..2"))
    assert judged["numbers"] == [2]
    check(Evaluation(members="2..2"))
    assert judged["members"] == [{"final": results["members"][1]["final"]}]
    assert results_table.results_table(judged).splitlines()[3].split()[0] == "2"
    exported = Trained.of(workdir, which="final", members="2..2")
    assert exported.model.identities == loaded.identities[1:] and not exported.results
    run = FinishedRun.of(str(workdir), "2..2")
    assert run.identities == loaded.identities[1:] and not run.complete
    assert run.judged["metrics"]["members"] == results["metrics"]["members"][1:]
    assert run.of_each(results["members"]) == results["members"][1:]


def test_a_member_that_was_removed_is_named(trained, tmp_path):
    """`no trained member yet`, it said beside the second."""
    shutil.copytree(trained[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run/members/01")
    with pytest.raises(UserError, match="member 1 is missing in .* do without by --members 2..2"):
        fgvc_jax.load(tmp_path / "run")
    assert fgvc_jax.load(tmp_path / "run", members="2..2").numbers == (2,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"members": 3}, "--members is 3: 2 are trained"),
        ({"members": "1,3"}, "--members is 1,3: 2 are trained"),
        ({"members": "2,1..2"}, "--members is 2,1..2: it names a member twice"),
        ({"members": "2..1"}, "--members is 2..1: 2 are trained"),
        ({"members": [0]}, "--members is 0: 2 are trained"),
        ({"which": "selected"}, "no validation part.*--which final"),
    ],
)
def test_members_that_are_not_there_are_told(trained, options, words):
    with pytest.raises(UserError, match=words):
        fgvc_jax.load(trained[0], **options)


def test_what_is_no_image_is_told(loaded, tmp_path):
    (tmp_path / "a.jpg").write_text("not an image")
    (tmp_path / "b.jpg").mkdir()
    for image in (tmp_path / "a.jpg", tmp_path / "b.jpg", "nowhere.png", "a\0b"):
        with pytest.raises(UserError, match="image"):
            loaded.predict(image)


def test_a_workdir_of_another_format_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match="no config.json"):
        fgvc_jax.load(tmp_path)
    shutil.copytree(trained[0], tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"format": 2', '"format": 3'))
    newer = f"was written by {fgvc_jax.__version__} of fgvc_jax, which this one .* not understand"
    with pytest.raises(UserError, match=newer):
        fgvc_jax.load(tmp_path / "run")
    config.write_text('{"members": 3}')  # as the first format was
    with pytest.raises(UserError, match="has format 1"):
        Workdir(tmp_path / "run").continued(tiny())
    (tmp_path / "run" / "export.json").write_text("{}")
    with pytest.raises(UserError, match="is an export"):
        Workdir(tmp_path / "run").record()


def test_a_newer_program_says_so_by_its_version(trained, tmp_path):
    """It was a field that is unknown, in a file that cannot be read."""
    shutil.copytree(trained[0], tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    saved = json.loads(config.read_text())
    assert saved["program"] == fgvc_jax.__version__
    config.write_text(json.dumps(saved | {"program": "99.1.0", "invented": 1}))
    with pytest.raises(UserError, match="was written by 99.1.0 of fgvc_jax, .*use that version"):
        fgvc_jax.load(tmp_path / "run")
    config.write_text(json.dumps(saved | {"invented": 1}))
    with pytest.raises(UserError, match="cannot be read: .*invented"):
        fgvc_jax.load(tmp_path / "run")


def test_without_a_validation_part_nothing_is_calibrated_and_a_line_says_so(trained, loaded):
    _, results, pictures = trained
    assert results["calibration"] is None
    with pytest.raises(UserError, match="no validation part.*--data.validation 0.1"):
        loaded.predict(pictures[:1], calibrated=True)


def test_a_model_says_what_it_is(trained):
    run = trained[0]
    told = repr(fgvc_jax.load(run, members=1))
    assert told.startswith(f"<1 member of {run}, resnet_micro trained on folder:")
    assert told.isprintable() and "4 classes (a plain, b 'quoted', comma, " in told
    assert told.endswith("<script>, ...), seen at 32 x 32 px>")
    assert "2 members" in repr(fgvc_jax.load(run))


def test_results_are_records(trained):
    run = trained[0]
    found = fgvc_jax.results(run)
    saved = json.loads((run / "results.json").read_text())
    (accuracy,) = [
        each for each in found
        if (each["of"], each["number"], each["metric"]) == ("ensemble", 2, "accuracy")
        and not each["calibrated"]
    ]  # fmt: skip
    assert accuracy["value"] == pytest.approx(saved["ensemble"][1])
    assert {(each["workdir"], each["seed"]) for each in found} == {(str(run), 0)}
    with pytest.raises(UserError, match="no workdir of a run"):
        fgvc_jax.results(run.parent)


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "has no results yet"), ('{"metrics": 3}', "once the file is removed"),
     ("[]", "once the file is removed")],
)  # fmt: skip
def test_results_that_are_not_there(trained, tmp_path, text, told):
    run = trained[0]
    shutil.copy(run / "config.json", tmp_path)
    if text:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match=told):
        fgvc_jax.results(tmp_path)
