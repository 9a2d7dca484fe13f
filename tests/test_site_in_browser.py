"""A site in a real browser, from the command to its answers, also when nobody serves it."""

import dataclasses
import io
import json
import shutil
from base64 import b64decode

import numpy as np
import pytest
from browser import Browser, Page, Server, needs_browser
from conftest import tiny
from PIL import Image
from reports import NAMES, written

import fgvc_jax
from fgvc_jax.commands import export
from fgvc_jax.inference.export import onnxruntime_web
from fgvc_jax.training import members
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import printable

pytestmark = [pytest.mark.slow, needs_browser]

SMALLER = "float16", "int8"
READY = "document.documentElement.dataset.threads"
ANSWERED = "!document.querySelector('#shown').hidden"
TOLD = "document.querySelector('.told').textContent"
TESTED = "document.querySelector('#self-test').textContent"
KEPT = "navigator.serviceWorker.ready.then(found => !!found.active)"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with run/, site/ and photographs of all kinds."""
    pytest.importorskip("onnx")
    root = tmp_path_factory.mktemp("site")
    try:
        runtime = onnxruntime_web.runtime("")
    except UserError as error:
        pytest.skip(str(error))
    package = root / "package"
    package.mkdir()
    for name, (within, _) in onnxruntime_web.FILES.items():
        (package / within.rpartition("/")[2]).write_bytes(runtime[name])
    source = written(root / "birds", {"train": 8, "test": 6})
    data = dataclasses.replace(
        tiny().data, source=f"folder:{source}", classes=0, images_per_class=0, validation=0.25
    )
    members.train(tiny(root / "run", data=data))
    photograph = next((source / "test" / NAMES[1]).iterdir())
    shutil.move(photograph, root / "photograph.png")
    words = ["--format", "web", "--output", str(root / "site"), "--runtime", str(package)]
    export.main([str(root / "run"), *words, "--with-thumbnails"])
    for precision in SMALLER:  # on the run's own images, while they are there
        words = ["--format", "web", "--output", str(root / precision), "--runtime", str(package)]
        export.main([str(root / "run"), *words, "--precision", precision, "--tolerance", "1"])
    shutil.rmtree(source)
    turned = Image.open(root / "photograph.png").resize((300, 200))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(root / "turned.jpg", exif=exif, quality=95, subsampling=0)
    (root / "broken.jpg").write_text("no photograph")
    return root


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def served(made):
    server = Server(made / "site")
    yield server
    server.close()


def opened(browser, server, words="", **options):
    page = Page(browser, f"{server.url}index.html{words}", **options)
    page.wait(READY)
    return page


def test_it_answers_at_once_and_offline_in_several_threads(made, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        server = Server(made / "site")
        page = opened(browser, server, "#self-test")
        page.wait(f"{TESTED}.startsWith('self-test: ok 3, largest difference ')")
        assert page.run(READY) == "1" and not page.run("crossOriginIsolated")
        page.wait(KEPT)
        assert page.complaints() == []
        server.close()
        page = opened(browser, server, "#self-test")
        page.wait(f"{TESTED}.startsWith('self-test: ok 3, largest difference ')")
        cores = page.run("navigator.hardwareConcurrency")
        assert page.run("crossOriginIsolated") and page.run(READY) == str(min(cores, 4))
        assert page.complaints() == []
        page.choose("input[type=file]", made / "photograph.png")
        page.wait(ANSWERED)


@pytest.mark.parametrize("precision", SMALLER)
def test_a_smaller_one_answers_as_it_did_where_it_was_made(made, browser, precision):
    server = Server(made / precision)
    page = opened(browser, server, "#self-test")
    page.wait(f"{TESTED}.startsWith('self-test: ok 3, largest difference ')")
    assert page.complaints() == []
    server.close()


def test_it_says_what_predict_says(made, browser, served):
    page, model = opened(browser, served), fgvc_jax.load(made / "run")
    for name in "photograph.png", "turned.jpg":
        file = made / name
        data = json.dumps(list(file.read_bytes()))
        ask = f"sent({{ file: new Blob([Uint8Array.from({data})]) }})"
        found = page.run(f"{ask}.then(r => [Array.from(r.found.probabilities), r.found.sure])")
        ours = model.predict(file)[0]
        np.testing.assert_allclose(found[0], ours, atol=2e-3)
        sure = model.predict(file, calibrated=True).max() >= model.accept_from(0.05)
        assert found[1] in (["sure"] if sure else ["unsure", "never"])


def test_the_training_photographs_beside_an_answer_are_those_that_python_finds(
    made, browser, served
):
    page, model = opened(browser, served), fgvc_jax.load(made / "run")
    known = model.remembered
    kept = list(map(known.pictures.__getitem__, range(len(known.pictures))))
    # A browser decodes a JPEG a little differently, so that others may be as near.
    for name, off in ("photograph.png", 1e-6), ("turned.jpg", 1e-2):
        data = json.dumps(list((made / name).read_bytes()))
        ask = f"sent({{ file: new Blob([Uint8Array.from({data})]) }})"
        classes = page.run(f"{ask}.then(r => r.found.classes)")
        assert len(classes) == len(NAMES)
        seen = model.embed(made / name, normalize=True)
        for each in classes:
            files = [b64decode(address.partition(",")[2]) for address in each["nearest"]]
            rows = [kept.index(file) for file in files]
            assert len({*rows}) == 3 and {*known.part.labels[rows]} == {each["number"]}
            _, (wanted,) = known.nearest(seen, 3, [each["number"]])
            np.testing.assert_allclose(known.vectors[rows] @ seen[0], wanted, atol=off)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_what_the_page_shows(made, browser, served, width, dark):
    page = opened(browser, served, width=width, dark=dark)
    page.wait(f"{TOLD} === 'Ready.'")
    assert not page.overflows()
    page.choose("input[type=file]", made / "photograph.png")
    page.wait(ANSWERED)
    names = page.run("[...document.querySelectorAll('.named bdi')].map(e => e.textContent)")
    assert sorted(names) == sorted(map(printable, NAMES))
    assert page.run("document.activeElement.textContent") == names[0]
    assert "networks say" in page.run("document.querySelector('.answer p').textContent")
    assert page.run("document.querySelectorAll('.examples img').length") >= len(NAMES)
    alternatives = page.run("[...document.querySelectorAll('.examples img')].map(e => e.alt)")
    assert all(each.startswith("a training photograph of ") for each in alternatives)
    beside = "Beside each class: its training photographs that look most like this one"
    assert beside in page.run("document.querySelector('.answer').textContent")
    assert page.run(TOLD) == "photograph.png"
    page.wait("[...document.images].every(image => image.complete)")
    assert page.run("[...document.images].every(i => i.alt && i.naturalWidth)")
    assert not page.overflows() and page.complaints() == []
    assert all(url.startswith(served.url) for url in page.requests())
    known = {f"/{file.name}" for file in (made / "site").iterdir()} | {"/"}
    assert set(served.asked) <= known


def test_the_keyboard_is_enough(made, browser, served):
    page = opened(browser, served)
    page.press("Tab")
    assert page.run("document.activeElement.matches('input[type=file]')")
    outline = "getComputedStyle(document.querySelector('.drop')).outlineStyle"
    assert page.run(outline) == "solid"
    names = page.run("[...document.querySelectorAll('#known .some bdi')].map(e => e.textContent)")
    assert names == list(map(printable, NAMES))
    page.press("Tab")
    assert page.run("document.activeElement.matches('#known button')")
    page.press("Enter")
    page.wait(ANSWERED)
    assert page.run(TOLD).startswith(f"A test photograph of {names[0]}: ")
    assert page.run("document.activeElement.matches('.answer h2')")
    assert page.run("document.scripts.length") == 1 and page.complaints() == []


def png(width, height):
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width), bool)).save(file, "PNG")
    return file.getvalue()


def test_what_it_cannot_answer_is_told_in_a_sentence(made, browser, served, tmp_path):
    page = opened(browser, served)
    page.choose("input[type=file]", made / "broken.jpg")
    page.wait(f"{TOLD}.startsWith('broken.jpg: this browser cannot read it as a photograph.')")
    (tmp_path / "large.png").write_bytes(png(9_000, 9_000))
    page.choose("input[type=file]", tmp_path / "large.png")
    page.wait(f"{TOLD} === 'large.png: it has more than 80 megapixels.'")
    assert not page.run(ANSWERED) and page.complaints() == []
    (tmp_path / "less.png").write_bytes(png(9_000, 6_700))
    page.choose("input[type=file]", tmp_path / "less.png")
    page.wait(f"{ANSWERED} && {TOLD} === 'less.png'")


def test_a_changed_file_fails_its_self_test_and_is_not_kept(made, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(made / "site", site)
    kept = json.loads((site / "selftest.json").read_text())
    for example in kept["examples"]:
        example["probabilities"].reverse()
    (site / "selftest.json").write_text(json.dumps(kept))
    server = Server(site)
    with Browser(tmp_path / "profile") as browser:
        page = opened(browser, server, "#self-test")
        page.wait(f"{TESTED}.startsWith('self-test: failed 3, largest difference ')")
        page.wait("navigator.serviceWorker.getRegistration().then(found => !found?.installing)")
        assert not page.run("navigator.serviceWorker.getRegistration().then(f => !!f?.active)")
    server.close()


def test_a_missing_file_is_told(made, browser, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(made / "site", site)
    (site / "model.onnx").unlink()
    server = Server(site)
    page = Page(browser, server.url)
    page.wait(f"{TOLD}.includes('could not be loaded: model.onnx is missing (404)')")
    server.close()


def test_opened_as_a_file_it_says_that_it_must_be_served(made, browser):
    page = Page(browser, (made / "site" / "index.html").as_uri())
    assert "Put the folder on any web server with https" in page.run(TOLD)
    assert page.run("document.querySelector('.ask').hidden") and page.complaints() == []
