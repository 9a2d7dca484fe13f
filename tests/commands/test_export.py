"""python -m fgvc_jax.export on a run, from the command line to what is read back."""

import json

import begun_runs
import numpy as np
import pytest
from conftest import command, finish, tiny
from exports import selftest

import fgvc_jax
from fgvc_jax.commands import export
from fgvc_jax.training import members
from fgvc_jax.utils.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("export") / "run"
    members.train(tiny(workdir, epochs=1))
    return workdir


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A workdir that says that it is finished: mistakes are told before its members are opened."""
    workdir = begun_runs.begun(tmp_path_factory.mktemp("untrained") / "run")
    begun_runs.finish(workdir, 1)
    return workdir


@pytest.mark.slow
def test_a_run_becomes_a_hubs_folder_and_comes_back(run, tmp_path):
    out = tmp_path / "out"
    export.main(["--workdir", str(run), "--format", "hub", "--output", str(out), "--members", "1"])
    images = np.load(out / "selftest.npz")["images"]
    ours = fgvc_jax.load(run, members=1)
    np.testing.assert_allclose(fgvc_jax.load(out).predict(images), ours.predict(images), atol=1e-6)
    results = json.loads((run / "results.json").read_text())
    found = results["metrics"]["ensemble"][0]["accuracy"]["value"]
    readme = " ".join((out / "README.md").read_text().split())  # its table is aligned
    assert f"| member 1 | {100 * found:.2f} %" in readme
    assert not [*out.glob("*.pkl"), *out.glob("*.pt"), *out.glob("*.bin")]


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "hub", "stablehlo"])
def test_the_command_writes_and_tries(run, tmp_path, format):
    pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    code, said, told = finish(
        command("export", "--workdir", run, "--format", format, "--output", out)
    )
    assert (code, told) == (0, "")
    assert said.splitlines()[0] == f"written: {out}" and "largest difference" in said
    assert said.splitlines()[-1].endswith(f"{out}/README.md")
    if format != "hub":
        assert "largest difference" in selftest(out)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_what_would_go_to_a_hub_is_told_and_nothing_is_left(run, elsewhere):
    words = [str(run), "--format", "hub", "--push", "museum/birds", "--dry-run"]
    told = export.export(export.named.read(export.Export, "export", words))
    assert "would go to museum/birds (private): 9 files" in told and "written" not in told
    told = export.export(
        export.named.read(export.Export, "export", [*words, "--with-thumbnails", "--output", "a"])
    )
    assert "examples.json" in told and (elsewhere / "a/examples.json").exists()
    readme = (elsewhere / "a/README.md").read_text()
    assert "The intervals above are over images" in readme


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_smaller_one_is_judged_on_the_runs_own_images(run, tmp_path, precision):
    pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    words = [str(run), "--output", str(out), "--precision", precision, "--tolerance", "1"]
    export.main(words)
    readme = (out / "README.md").read_text()
    images = json.loads((run / "results.json").read_text())["images"]["test"]
    assert f"On {images} test images" in readme and f"| {precision}" in readme
    assert "largest difference" in selftest(out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workdir", "RUN"], "--output is missing"),
        (["--workdir", "nowhere", "--output", "TMP/a"], "no workdir of a run"),
        (["--workdir", "RUN", "--output", "RUN"], "no earlier export"),
        (["--workdir", "RUN", "--output", "TMP/a", "--members", "3"], "2 are trained"),
        (["--workdir", "RUN", "--output", "TMP/a", "--which", "selected"], "no validation part"),
        (["--workdir", "RUN", "--output", "TMP/a", "--format", "torch"], "onnx"),
        (["--worker", "RUN"], "did you mean --workdir"),
        (
            ["RUN", "--output", "TMP/a", "--with-thumbnails"],
            "--with-thumbnails is for --format hub and web",
        ),
        (["RUN", "--output", "TMP/a", "--runtime", "a.tgz"], "--runtime is for --format web alone"),
        (["RUN", "--output", "TMP/a", "--format", "hub", "--batch", "1"], "is for --format onnx"),
        (["RUN", "--output", "TMP/a", "--format", "web", "--runtime", "TMP/b"], "npm pack"),
        (
            ["RUN", "--output", "TMP/a", "--format", "hub", "--precision", "int8"],
            "--precision is for --format onnx and web alone",
        ),
        (["RUN", "--output", "TMP/a", "--precision", "int4"], "float16"),
        (["RUN", "--push", "museum/birds"], "--push is for --format hub alone"),
        (["RUN", "--format", "hub", "--push", "birds"], "expected ORG/NAME"),
        (["RUN", "--format", "hub", "--output", "TMP/a", "--public"], "are for --push ORG/NAME"),
        (["RUN", "--output", "TMP/a", "--tolerance", "2"], "--tolerance"),
    ],
)
def test_mistakes_are_told_in_a_line(untrained, tmp_path, arguments, words):
    arguments = [word.replace("RUN", untrained).replace("TMP", str(tmp_path)) for word in arguments]
    with pytest.raises(UserError, match=words) as told:
        export.main(arguments)
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir())
