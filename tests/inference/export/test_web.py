"""A site's folder: whole, of files that belong together, or not there."""

import base64
import errno
import functools
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from exports import CLASSES, images, trained

from fgvc_jax.data.images import decode
from fgvc_jax.data.taxonomy import Taxonomy
from fgvc_jax.evaluation.calibration import Calibration
from fgvc_jax.evaluation.families import Coarsening
from fgvc_jax.evaluation.novelty import Novelty
from fgvc_jax.figures import site
from fgvc_jax.inference import rows
from fgvc_jax.inference.export import onnx, web, writing
from fgvc_jax.inference.export.web_neighbours import SitePhotographs
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import printable

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

RUNTIME = {"ort.js": b"export {};", "ort.wasm": b"\0asm"}
PICTURES = {0: ["data:image/jpeg;base64,AA=="]}
ABOUT = {"widths": [2, 1], "labels": [0, 4], "pictures": [3, 0]}
NEAR = SitePhotographs(bytes(12) + b"one", ABOUT)


def format_of(of, *, calibrated=False, pictures=None, neighbours=None, service=site.service):
    pages = functools.partial(
        site.pages,
        source="birds",
        classes=len(of.model.classes),
        members=len(of.model.members),
        accuracy=of.accuracy,
        calibrated=calibrated,
        boxed=False,
    )
    return web.format_of(
        web.Site(
            runtime=RUNTIME,
            pages=lambda megabytes, novel: pages(megabytes=megabytes, novel=novel),
            service=service,
            sure=site.sure(0.05),
            risk=0.05,
            calibrated=calibrated,
            pictures=pictures,
            neighbours=neighbours,
        )
    )


@pytest.fixture(scope="module")
def of():
    return trained()


@pytest.fixture(scope="module")
def folder(of, tmp_path_factory):
    path = tmp_path_factory.mktemp("site") / "out"
    writing.write(of, path, "web", format_of(of, pictures=PICTURES, neighbours=NEAR))
    return path


def read(folder, name):
    return json.loads((folder / name).read_text())


@pytest.mark.slow
def test_every_file_that_the_page_asks_for_is_there_and_known(folder):
    (kept,) = re.findall(
        r"const FILES = (\{.*?\});", (folder / "service.js").read_text(), re.DOTALL
    )
    kept = json.loads(kept)
    assert set(kept) == {
        "about.json",
        "examples.json",
        "index.html",
        "model.onnx",
        "nearest.js",
        "neighbours.bin",
        "ort.js",
        "ort.wasm",
        "resize.js",
        "selftest.json",
        "worker.js",
    }
    assert kept == {name: digests.of_file(folder / name) for name in kept}
    asked = (folder / "worker.js").read_text() + (folder / "index.html").read_text()
    files = r'"(?:\./)?([\w.]+\.(?:js|json|wasm|onnx|bin))"'
    assert set(re.findall(files, asked)) == {*kept, "service.js"} - {"index.html"}
    assert "Copyright (c) Microsoft" in (folder / web.LICENSE).read_text()
    assert read(folder, "about.json")["bytes"] == sum(
        (folder / name).stat().st_size for name in ("model.onnx", "ort.wasm", "neighbours.bin")
    )


@pytest.mark.slow
def test_names_are_data_that_nothing_disguises(folder):
    names = read(folder, "about.json")["names"]
    assert names == list(map(printable, CLASSES)) and "d\\u202eright" in names
    for file in ("index.html", "worker.js", "service.js"):
        assert "d\u202eright" not in (folder / file).read_text()


@pytest.mark.slow
def test_the_graph_also_tells_what_each_member_says(of, folder):
    some = images(of, 3)
    session = runtime.InferenceSession(folder / "model.onnx")
    fused, members = session.run(["probabilities", "members"], {"images": some})
    np.testing.assert_allclose(fused, of.inference(some), atol=1e-5)
    assert members.shape == (3, 2, len(CLASSES))
    np.testing.assert_allclose(members.mean(1), fused, atol=1e-5)  # as it fuses


@pytest.mark.slow
def test_training_photographs_come_with_what_the_members_see(of, folder):
    assert (folder / "neighbours.bin").read_bytes() == NEAR.data
    assert read(folder, "about.json")["neighbours"] == ABOUT
    some = images(of, 2)
    session = runtime.InferenceSession(folder / "model.onnx")
    (seen,) = session.run(["embedding"], {"images": some})
    np.testing.assert_allclose(seen, of.model.embed(list(some)), rtol=1e-3, atol=1e-4)
    text = (folder / "README.md").read_text()
    assert "`neighbours.bin`: 2 training photographs" in text and "`embedding`" in text


@pytest.mark.slow
def test_the_self_test_has_what_we_answer_for_photographs_of_other_shapes(of, folder):
    kept = read(folder, "selftest.json")
    assert kept["within"] == web.WITHIN and len(kept["examples"]) == len(web.SIZES)
    for example in kept["examples"]:
        record = {"image": base64.b64decode(example["photograph"]), "name": "kept"}
        square = decode(record, 36, orientation="exif")
        wanted = of.model.predict(square)[0]
        np.testing.assert_allclose(example["probabilities"], wanted, atol=1e-5)


def test_without_photographs_there_is_no_file_of_them(of, tmp_path):
    writing.write(of, tmp_path / "out", "web", format_of(of))
    for name in "examples.json", "neighbours.bin":
        assert not (tmp_path / "out" / name).exists()
    session = runtime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert [each.name for each in session.get_outputs()] == list(web.OUTPUTS)
    assert "neighbours" not in (tmp_path / "out" / "README.md").read_text()
    about = read(tmp_path / "out", "about.json")
    assert about["examples"] is False and about["calibration"] is None
    assert about["families"] is None and about["novelty"] is None and about["neighbours"] is None
    assert "examples.json" not in (tmp_path / "out" / "service.js").read_text()


@pytest.mark.parametrize(("threshold", "kept"), [(0.75, 0.75), (np.inf, None)])
def test_what_is_calibrated_is_told(of, tmp_path, monkeypatch, threshold, kept):
    found = Calibration(1.5, 0.9, 0.8, 100, 1.2, 1.9)
    monkeypatch.setattr(type(of.model), "calibration", found)
    monkeypatch.setattr(type(of.model), "accept_from", lambda *_: threshold)
    monkeypatch.setattr(type(of.model), "least_risk", lambda _: 0.2)
    writing.write(of, tmp_path / "out", "web", format_of(of, calibrated=True))
    about = read(tmp_path / "out", "about.json")
    assert about["calibration"] == {"temperature": 1.5, "acceptFrom": kept, "shown": True}


@pytest.mark.parametrize("score", ["max_logit", "distance"])
def test_what_may_be_none_of_these_is_told_by_the_graph_alone(of, tmp_path, monkeypatch, score):
    known = np.random.default_rng(0).normal(size=99).astype(np.float32)
    found = Novelty(score, known, "validation images", {})
    monkeypatch.setattr(type(of.model), "novelty", found)
    writing.write(of, tmp_path / "out", "web", format_of(of))
    told = read(tmp_path / "out", "about.json")["novelty"]
    marked = "“none of these?”" in (tmp_path / "out" / "index.html").read_text()
    assert marked == (told is not None) == (score == "max_logit")
    if told:
        assert (told["column"], told["count"], len(told["strangest"])) == (1, 99, 5)
        for strangeness in (*known[:20], known.max() + 1):
            ours = float(found.typicality(np.array([strangeness]))[0])
            page = (1 + sum(each >= strangeness for each in told["strangest"])) / 100
            assert page == ours if ours <= told["unusual"] else page > told["unusual"]


def test_families_are_told_with_what_is_promised(of, tmp_path, monkeypatch):
    levels, count = ("species", "genus\u202e"), len(CLASSES)
    lineages = tuple((name, f"group {n // 3}") for n, name in enumerate(CLASSES))
    found = Coarsening(Taxonomy(levels, lineages), 0.05, 1.5, 0.75, 99, "validation", ())
    monkeypatch.setattr(of.model, "calibration_store", SimpleNamespace(workdir=tmp_path))
    monkeypatch.setattr(rows.taxonomy, "kept", lambda *_: found.taxonomy)
    monkeypatch.setattr(web, "_calibration", lambda *_: None)
    monkeypatch.setattr(web, "_novelty", lambda *_: None)
    monkeypatch.setattr(type(of.model), "coarsening", lambda _, risk: {0.05: found}[risk])
    writing.write(of, tmp_path / "out", "web", format_of(of))
    families = read(tmp_path / "out", "about.json")["families"]
    assert families["levels"] == ["species", "genus\\u202e"]
    assert families["groups"] == [list(range(count)), [n // 3 for n in range(count)]]
    assert families["names"][1] == ["group 0", "group 1"]
    assert (families["temperature"], families["threshold"]) == (1.5, 0.75)


def test_calibrated_needs_a_calibration(of, tmp_path):
    with pytest.raises(UserError, match="nothing is fitted"):
        writing.write(of, tmp_path / "out", "web", format_of(of, calibrated=True))
    assert not list(tmp_path.iterdir())


def interrupted(_digests):
    raise KeyboardInterrupt


def full(_digests):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("service", [interrupted, full])
def test_an_interrupted_export_leaves_nothing_and_an_earlier_one_as_it_was(of, tmp_path, service):
    path, broken = tmp_path / "out", format_of(of, service=service)
    with pytest.raises((KeyboardInterrupt, OSError)):
        writing.write(of, path, "web", broken)
    assert not list(tmp_path.iterdir())
    writing.write(of, path, "web", format_of(of))
    before = digests.of_file(path / "service.js")
    with pytest.raises((KeyboardInterrupt, OSError)):
        writing.write(of, path, "web", broken)
    assert digests.of_file(path / "service.js") == before
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_members_that_no_browser_holds_are_refused(of, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "LARGEST", 1000)
    with pytest.raises(UserError, match="no browser holds.*--members 1"):
        writing.write(of, tmp_path / "out", "web", format_of(of))
    assert not list(tmp_path.iterdir())
