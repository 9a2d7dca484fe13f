"""python -m fgvc_jax.embed: files of vectors, from a workdir whose dataset is gone, or weights."""

import json
import os
import shutil
import sys

import datasets
import numpy as np
import pytest
from conftest import ODD, command, finish, first_quick, tiny
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image
from pyarrow import parquet

import fgvc_jax
from fgvc_jax.commands import embed
from fgvc_jax.data.sources import open_source
from fgvc_jax.inference.stream import Embedded
from fgvc_jax.networks.weights import export_torch
from fgvc_jax.training import members, suitability
from fgvc_jax.utils.errors import UserError

PATHS = [f"photos/{i:02d}.png" for i in range(12)] + [f"photos/sub/{ODD}"]
BARE = ("--network.name", "resnet_micro", "--data.resize", "36", "--data.crop", "32")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two members, photographs, the weights of the first member, and no dataset."""
    root = tmp_path_factory.mktemp("embed")
    members.train(tiny(root / "run"))
    birds = open_source("sketchbirds").test
    (root / "photos/sub").mkdir(parents=True)
    for i in range(12):
        Image.fromarray(birds[i]["image"]).save(root / f"photos/{i:02d}.png")
    shutil.copy(root / "photos/03.png", root / "photos/sub" / ODD)
    (root / "empty").mkdir()
    first = fgvc_jax.load(root / "run").members[0].variables
    export_torch(root / "first.safetensors", unflatten_dict(flatten_dict(first)))
    return root


def run(*words):
    embed.main(["--batch-size", "4", *map(str, words)])


def of_run(*words):
    run("--workdir", "run", *words)


def read(path):
    """(paths, vectors, errors) of any of the files."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as found:
            return list(found["path"]), found["embedding"], list(found["error"])
    if path.suffix == ".npy":
        text = path.with_name(f"{path.name}.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        return [x["path"] for x in lines], rows, [x["error"] or "" for x in lines]
    table = parquet.read_table(path).to_pydict()
    rows = np.array(table["embedding"], np.float32)
    return table["path"], rows, [error or "" for error in table["error"]]


KINDS = ".npz", ".npy", ".parquet"


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_has_the_rows_that_python_users_get_in_order(here, tmp_path, model, kind):
    of_run("photos", "--output", tmp_path / f"a{kind}")
    paths, rows, errors = read(tmp_path / f"a{kind}")
    assert paths == PATHS and errors == [""] * 13
    assert rows.dtype == np.float32 and rows.shape == (13, sum(model.widths()))
    np.testing.assert_allclose(rows, model.embed(PATHS), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rows[12], rows[3], rtol=1e-4, atol=1e-5)  # the same photograph
    beside = {"a.npy.jsonl"} if kind == ".npy" else set()
    assert {path.name for path in tmp_path.iterdir()} == {f"a{kind}"} | beside


@pytest.mark.slow
def test_the_kinds_agree_to_the_bit(here, tmp_path):
    found = []
    for kind in KINDS:
        of_run("photos", "--tap", "stage3", "--normalize", "--output", tmp_path / f"a{kind}")
        found.append(read(tmp_path / f"a{kind}")[1])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_allclose(np.linalg.norm(found[0], axis=1), 1, rtol=1e-5)


def test_whose_the_columns_are(here, tmp_path, model, caplog):
    caplog.set_level("INFO", logger="fgvc_jax")
    of_run("photos", "--output", tmp_path / "a.npz")
    first, second = model.widths()
    with np.load(tmp_path / "a.npz") as found:
        assert found["member"].tolist() == [1] * first + [2] * second
        both = found["embedding"]
    assert f"(0..{first - 1} member 1, {first}..{first + second - 1} member 2)" in caplog.text
    of_run("photos", "--members", "2..2", "--output", tmp_path / "b.parquet")
    about = json.loads(parquet.read_schema(tmp_path / "b.parquet").metadata[b"fgvc_jax"])
    assert about["members"] == [{"number": 2, "columns": second}] and not about["normalize"]
    np.testing.assert_array_equal(read(tmp_path / "b.parquet")[1], both[:, first:])


@pytest.mark.parametrize("kind", first_quick(KINDS))
def test_broken_images_are_rows_that_are_no_numbers(here, tmp_path, kind):
    folder = datasets.hostile(tmp_path / "hostile", here / "photos/00.png")
    (tmp_path / "out").mkdir()
    file = tmp_path / f"out/a{kind}"
    with pytest.raises(UserError, match="^5 of 7 images could not be read: their rows are NaN"):
        of_run(folder, "gone.jpg", "--output", file)
    paths, rows, errors = read(file)
    assert len(paths) == len(rows) == len(errors) == 7
    for path, row, error in zip(paths, rows, errors, strict=True):
        good = os.path.basename(path) in ("00.png", "one.png")
        assert np.isfinite(row).all() == good and np.isnan(row).all() != good, path
        assert (error == "") == good
    of_run("photos/00.png", "--output", tmp_path / f"out/b{kind}")
    whole = rows[[os.path.basename(path) for path in paths].index("00.png")]
    np.testing.assert_allclose(whole, read(tmp_path / f"out/b{kind}")[1][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_broken_images(here, tmp_path, kind):
    with pytest.raises(UserError, match="^1 of 1 images"):
        of_run("gone.jpg", "--output", tmp_path / f"a{kind}")
    assert np.isnan(read(tmp_path / f"a{kind}")[1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_file_names_that_are_no_text_are_data(here, tmp_path, kind):
    name = os.fsdecode(b"\xff.png")
    shutil.copy("photos/00.png", tmp_path / name)
    of_run(tmp_path / name, "--output", tmp_path / f"a{kind}")
    ((path,), _, _) = read(tmp_path / f"a{kind}")
    escaped = "\\xff.png" if kind == ".parquet" else name  # which knows UTF-8 alone
    assert path == f"{tmp_path}/{escaped}"


@pytest.mark.parametrize("kind", KINDS)
def test_what_fails_leaves_no_half_file_and_the_old_one(here, tmp_path, monkeypatch, kind):
    (tmp_path / f"a{kind}").write_text("old")

    def fail(*_, **__):
        yield Embedded(["a"], [""], np.zeros((1, 32), np.float32))
        raise UserError("not finite")

    monkeypatch.setattr(embed.stream, "embed", fail)
    with pytest.raises(UserError, match="not finite"):
        of_run("photos", "--output", tmp_path / f"a{kind}")
    assert [path.name for path in tmp_path.iterdir()] == [f"a{kind}"]
    assert (tmp_path / f"a{kind}").read_text() == "old"


def test_many_rows_are_many_row_groups_and_blocks_of_text(tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "ROW_GROUP", 4 * 3 * 10)
    monkeypatch.setattr(embed, "TEXTS", 7)
    content = embed.Content((1,), (3,), "", False)
    rows = np.arange(99, dtype=np.float32).reshape(33, 3)
    for kind in KINDS:
        file, write_to = embed._output(str(tmp_path / f"a{kind}"))
        with write_to(file, content) as write:
            for start in range(0, 33, 4):
                some = rows[start : start + 4]
                names = [f"{start + i}" * (1 + start) for i in range(len(some))]
                write(Embedded(names, [""] * len(some), some))
        paths, found, _ = read(file)
        np.testing.assert_array_equal(found, rows)
        assert paths[0] == "0" and paths[-1] == "32" * 33 and len(paths) == 33
    assert parquet.ParquetFile(tmp_path / "a.parquet").num_row_groups == 3


def test_no_rows_are_a_file_all_the_same(tmp_path):
    content = embed.Content((1,), (3,), "", False)
    for kind in KINDS:
        file, write_to = embed._output(str(tmp_path / f"a{kind}"))
        with write_to(file, content):
            pass
        assert len(read(file)[1]) == 0


def test_a_pretrained_network_without_a_run(here, tmp_path, model):
    """The first member's view, but for what a bare network's usual weights were trained with; and
    its average, where a KT head takes the maximum."""
    words = *BARE, "--network.weights", "first.safetensors", "--data.normalize", "half"
    run("photos", *words, "--tap", "stage4", "--output", tmp_path / "a.npz")
    of_run("photos", "--members", "1", "--tap", "stage4", "--output", tmp_path / "b.npz")
    bare, member = (read(tmp_path / f"{name}.npz")[1] for name in "ab")
    np.testing.assert_allclose(bare, member, rtol=1e-5, atol=1e-6)
    run("photos", *words[:-2], "--tap", "stage4", "--output", tmp_path / "c.npz")
    assert np.abs(read(tmp_path / "c.npz")[1] - bare).max() > 1e-3  # imagenet's


def test_a_bare_networks_weights_are_compared_with_the_first_photographs(
    here, tmp_path, monkeypatch, caplog
):
    asked = []
    monkeypatch.setattr(suitability, "of_network", lambda *a: asked.append(a) or ["a doubt"])
    given = "--network.weights", "first.safetensors", "--data.normalize", "half"
    run("photos", *BARE, *given, "--output", tmp_path / "a.npz")
    ((name, variables, images, normalize),) = asked
    assert (name, images.shape, normalize) == ("resnet_micro", (13, 32, 32, 3), "half")
    assert set(variables) == {"params", "batch_stats"}
    assert [each.message for each in caplog.records][:1] == ["warning: a doubt"]
    assert read(tmp_path / "a.npz")[0] == PATHS
    of_run("photos", "--output", tmp_path / "b.npz")
    assert len(asked) == 1  # a run's own weights were looked at when it was trained


@pytest.mark.slow
def test_weights_that_learned_from_other_images_are_told(here, tmp_path, model, caplog):
    first = {kind: dict(tree) for kind, tree in model.members[0].variables.items()}
    shown = np.stack([np.asarray(Image.open(path).resize((32, 32))) for path in PATHS])
    made = suitability.Remembering("resnet_micro", first)
    seen = flatten_dict(made.remembered(shown, "imagenet"))
    known = flatten_dict(first["batch_stats"])
    weights = tmp_path / "w.safetensors"
    export_torch(weights, {**first, "batch_stats": unflatten_dict({**known, **seen})})
    bare = *BARE, "--network.weights", weights, "--output", tmp_path / "a.npz"
    run("photos", *bare, "--data.normalize", "imagenet")
    run(*PATHS[:3], *bare, "--data.normalize", "half")  # too few to tell
    assert "try --data.normalize" not in caplog.text
    run("photos", *bare, "--data.normalize", "half")
    assert "warning: the weights of resnet_micro seem" in caplog.text
    assert "try --data.normalize imagenet in place of half" in caplog.text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--output", "a.npz"], "no image is named"),
        (["empty", "--output", "a.npz"], "no image was found in 'empty'"),
        (["photos"], "name a file for the vectors: --output vectors.npz"),
        (["photos", "--output", "a.csv"], "'a.csv': end it in .npz, .npy or .parquet"),
        (["photos", "--output", "none/a.npy"], "there is no folder 'none'"),
        (["photos", "--output", "photos"], "cannot be written there"),
        (["photos", "--output", "taken.npy"], "'taken.npy.jsonl' cannot be written there"),
        (["photos", "--output", "a.npz", "--tap", "x"], "--tap is 'x': choose one of stage2, st"),
        (["photos", "--output", "a.npz", "--members", "3"], "--members is 3: 2 are trained"),
        (["photos", "--output", "a.npz", "--which", "selected"], "no epoch was selected"),
        (["photos", "--output", "a.npz", "--workdir", "begun"], "has no trained member yet"),
        (["photos", "--output", "a.npz", "--workdir", "empty"], "no config.json"),
        (["photos", "--output", "a.npz", "--taps", "x"], "did you mean --tap"),
        (["photos", "--output", "a.npz", "--network.name", "resnet_micro", "--workdir=run"],
         "--workdir is of a run, and --network.name of a pretrained network without one"),
        (["photos", "--output", "a.npz", "--network.name", "resnet_micro", "--members", "1"],
         "--members is of a run, and"),
        (["photos", "--output", "a.npz", "--data.crop", "32"], "--data.crop is of a pretrained"),
        (["photos", "--output", "a.npz", *BARE], "resnet_micro needs pretrained weights"),
        (["photos", "--output", "a.npz", *BARE, "--network.weights", "none.safetensors"],
         "no such file"),
        (["photos", "--output", "a.npz", *BARE, "--network.name", "resnet99"], "unknown network"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(here, words, told):
    os.makedirs("taken.npy.jsonl", exist_ok=True)
    if not os.path.exists("begun"):
        shutil.copytree("run", "begun")
        shutil.rmtree("begun/members")
    (here / "runs").mkdir(exist_ok=True)
    if not os.path.exists("runs/sketchbirds"):
        os.symlink("../run", "runs/sketchbirds")  # the run that is asked without --workdir
    with pytest.raises(UserError, match=told) as error:
        run(*words)
    assert "\n" not in str(error.value) and not os.path.exists("a.npz")


def test_without_pyarrow_a_parquet_is_one_line(here, tmp_path, monkeypatch):
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="needs the package pyarrow: pip install .*take .npz"):
        of_run("photos", "--output", tmp_path / "a.parquet")
    of_run("photos/00.png", "--output", tmp_path / "a.npz")


@pytest.mark.slow
def test_as_a_command_a_broken_image_is_exit_code_2(here, tmp_path):
    words = ["photos/00.png", "gone.jpg", "--workdir", "run", "--output", tmp_path / "a.npz"]
    code, out, err = finish(command("embed", *words, cwd=here))
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == (
        "error: 1 of 2 images could not be read: their rows are NaN, and error says why"
    )
    assert read(tmp_path / "a.npz")[0] == ["photos/00.png", "gone.jpg"]
