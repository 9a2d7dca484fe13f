"""Pages in a real browser: what a reader does works, and the console stays silent.

The run behind them has classes with difficult names, and its dataset is gone.
"""

import dataclasses
import shutil
import threading
from types import SimpleNamespace

import pytest
from all_pages import pages
from browser import REBOUND, Browser, Page, needs_browser
from conftest import tiny
from reports import NAMES, written

from fgvc_jax.commands import inspect, report
from fgvc_jax.commands.demo import Answerer, Demo
from fgvc_jax.commands.report import Report
from fgvc_jax.figures import matrix
from fgvc_jax.figures.demo import demo_page
from fgvc_jax.figures.page import asset
from fgvc_jax.training import members
from fgvc_jax.utils.text import printable

pytestmark = [pytest.mark.slow, needs_browser]
WIDTHS = pytest.mark.parametrize("width", [1280, 390])
SCRIPT = printable(NAMES[1])  # the class that would run something


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with run/, inspect.html, report.html and photograph.png."""
    root = tmp_path_factory.mktemp("pages")
    source = written(root / "birds", {"train": 8, "test": 6})
    inspect.main(["--data.source", f"folder:{source}", "--output", str(root / "inspect.html")])
    data = dataclasses.replace(
        tiny().data, source=f"folder:{source}", classes=0, images_per_class=0, validation=0.25
    )
    members.train(tiny(root / "run", data=data))
    shutil.move(next((source / "test" / NAMES[1]).iterdir()), root / "photograph.png")
    shutil.rmtree(source)
    report.report(Report(str(root / "run"), str(root / "report.html")))
    (root / "broken.jpg").write_bytes(b"no photograph")
    return root


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def is_clean(page, *addresses):
    """Nothing is in the console, nobody else was asked, and nothing is wider than the window."""
    assert page.complaints() == []
    assert page.requests() == set(addresses)
    assert not page.overflows()
    assert page.run("document.scripts.length") <= 1
    assert page.run("[...document.images].every(i => i.alt && i.naturalWidth)")


@WIDTHS
def test_the_reports_search_finds_a_class(browser, made, width):
    address = (made / "report.html").as_uri()
    page = Page(browser, address, width=width)
    shown = "[...document.querySelectorAll('#classes tbody tr')].filter(r => r.checkVisibility())"
    assert page.run(f"{shown}.length") == len(NAMES)
    page.run("document.querySelector('[type=search]').focus()")
    page.type(SCRIPT[:12].upper())
    page.wait(f"{shown}.length === 1")
    assert page.run("[...document.querySelectorAll('#trained details')].every(d => !d.open)")
    assert SCRIPT in page.run(f"{shown}[0].textContent")
    found = page.run("document.querySelectorAll('[data-item]:not([hidden])').length")
    assert page.run("document.querySelector('.search output').value").startswith(f"{found} of ")
    page.press("Escape")
    page.wait(f"{shown}.length === {len(NAMES)}")
    page.type("no such class")
    page.wait(f"{shown}.length === 0")
    is_clean(page, address)


def test_an_error_that_is_clicked_is_enlarged_with_its_whole_path(browser, made):
    address = (made / "report.html").as_uri()
    page = Page(browser, address)
    first = "document.querySelector('#errors figure')"
    path = page.run(f"{first}.querySelector('.path').textContent.trim()")
    assert path.count("/") >= 1 and not page.run(f"{first}.innerText").count(path)
    page.run(f"{first}.querySelector('img').click()")
    page.wait("document.querySelector('dialog').open")
    assert path in page.run("document.querySelector('dialog').innerText")
    near = page.run("[...document.querySelectorAll('dialog .near img')].map(i => i.width)")
    assert near and max(near) < page.run("document.querySelector('dialog img').width") / 2
    assert not page.overflows()
    page.press("Escape")
    page.wait("!document.querySelector('dialog').open")
    is_clean(page, address)


def test_names_beside_the_matrix_are_whole(browser, tmp_path):
    names = ["W" * 40, "smooth-crowned spectacled snipe", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "鳥" * 40]
    classes = [{"class": name, "label": n, "images": 9, "right": 5} for n, name in enumerate(names)]
    pair = {"classes": (0, 1), "counts": (4, 4), "images": [9, 9], "examples": [[], []]}
    html = tmp_path / "matrix.html"
    style = asset("report.css") + "svg { font: 16px system-ui, sans-serif; }"
    drawn = matrix.confusion(classes, [pair])
    html.write_text(f"<!doctype html><meta charset=utf-8><style>{style}</style>{drawn}")
    page = Page(browser, html.as_uri())
    assert page.run("document.querySelectorAll('text').length") == 2 * len(names)
    assert page.run(
        "[...document.querySelectorAll('text')].every(t => t.getBBox().width <= "
        f"{matrix.NAMES - matrix.MARGIN})"
    )


@WIDTHS
def test_the_inspections_page(browser, made, width):
    address = (made / "inspect.html").as_uri()
    page = Page(browser, address, width=width, dark=True)
    assert SCRIPT in page.run("document.body.textContent")
    is_clean(page, address)


@WIDTHS
@pytest.mark.parametrize("text", ["w" * 300, "w w " * 75])
def test_a_long_text_does_not_widen_a_page(browser, tmp_path, text, width):
    notebook = '<!doctype html><meta name="viewport" content="width=device-width, initial-scale=1">'
    for kind, made in pages(text).items():
        (tmp_path / f"{kind}.html").write_text(made if "<html" in made else notebook + str(made))
        page = Page(browser, (tmp_path / f"{kind}.html").as_uri(), width=width)
        assert page.run("window.innerWidth") == width and not page.overflows(), kind


@pytest.fixture(scope="module")
def demo(made):
    """The address of the demo, and the uploads that reached the model."""
    web = pytest.importorskip("fgvc_jax.commands.server")
    asked, seen = Answerer(Demo(str(made / "run"))), []

    def answer(upload):
        seen.append(upload)
        return asked.answer(upload)

    text = demo_page("run", len(asked.classes), members=asked.members, most_bytes=2**20)
    listening = web.listen("127.0.0.1", 0)
    told = SimpleNamespace(known=asked.known, answer=answer, answer_kept=asked.answer_kept)
    application = web.application(text, told)
    threading.Thread(target=web.serve, args=(application, listening), daemon=True).start()
    return f"{web.url(listening)}/", seen


ANSWERED = "!document.querySelector('#shown').hidden"
TOLD = "document.querySelector('[role=status]').textContent"


@WIDTHS
def test_the_demo_answers_an_upload(browser, made, demo, width):
    address, _ = demo
    page = Page(browser, address, width=width)
    page.press("Tab")
    assert page.run("document.activeElement.matches('input[type=file]')")
    page.choose("input[type=file]", made / "photograph.png")
    page.wait(ANSWERED)
    names = page.run("[...document.querySelectorAll('.named bdi')].map(e => e.textContent)")
    assert sorted(names) == sorted(map(printable, NAMES))
    assert page.run("document.activeElement.textContent") == names[0]
    assert page.run("document.querySelectorAll('.views img').length") == 4
    assert page.run(TOLD) == "photograph.png"
    page.wait("[...document.images].every(image => image.complete)")
    is_clean(page, address, f"{address}known", f"{address}answer")


TILES = "document.querySelectorAll('#known .some button')"


@WIDTHS
def test_the_demo_is_tried_with_the_keyboard_alone(browser, demo, width):
    address, _ = demo
    page = Page(browser, address, width=width, dark=True)
    page.wait(f"{TILES}.length === {len(NAMES)}")
    assert page.run("document.querySelector('#known details').hidden")  # all are shown
    names = page.run("[...document.querySelectorAll('#known .some bdi')].map(e => e.textContent)")
    assert names == list(map(printable, NAMES))
    while not page.run(f"document.activeElement === {TILES}[1]"):
        page.press("Tab")
    page.press("Enter")
    page.wait(ANSWERED)
    assert page.run(TOLD).startswith(f"A test photograph of {SCRIPT}: ")
    assert page.run("document.activeElement.matches('.answer h2')")
    page.wait("[...document.images].every(image => image.complete)")
    is_clean(page, address, f"{address}known", f"{address}kept/1")


def test_of_many_classes_some_are_shown_and_a_search_finds_the_others(browser, demo):
    page = Page(browser, demo[0])
    page.wait(f"{TILES}.length === {len(NAMES)}")
    page.run("know([...Array(40).keys()].map(n => `class ${n}.`), "
             "Object.fromEntries([...Array(30).keys()].map(n => [n, ['data:,']])))")  # fmt: skip
    assert page.run(f"{TILES}.length") == 12
    shown = "[...document.querySelectorAll('#known details li')].filter(e => e.checkVisibility())"
    assert page.run(f"{shown}.length") == 0
    page.run("document.querySelector('#known summary').click()")
    assert page.run(f"{shown}.length") == 40
    page.run("document.querySelector('#known [type=search]').focus()")
    page.type(" CLASS 39.")
    page.wait(f"{shown}.length === 1")
    assert page.run(f"{shown}[0].textContent") == "class 39."


def test_a_telephone_has_a_button_for_its_camera(browser, demo):
    camera = "document.querySelector('[capture=environment]').checkVisibility()"
    page = Page(browser, demo[0])
    assert not page.run(camera)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    page.call("Emulation.setEmulatedMedia", features=[
        {"name": "hover", "value": "none"}, {"name": "pointer", "value": "coarse"}])  # fmt: skip
    page.wait(camera)
    assert not page.run("document.querySelector('.by-mouse').checkVisibility()")


def test_the_demo_tells_in_a_sentence_what_it_cannot_answer(browser, made, demo, tmp_path):
    address, seen = demo
    page = Page(browser, address)
    page.choose("input[type=file]", made / "broken.jpg")
    page.wait(f"{TOLD}.startsWith('broken.jpg: This file is none of ')")
    count = len(seen)
    large = tmp_path / "large.png"
    large.write_bytes(bytes(2**20 + 1))
    page.choose("input[type=file]", large)
    page.wait(f"{TOLD}.startsWith('The file has more than 1 MiB')")
    assert len(seen) == count and not page.run(ANSWERED)
    assert page.complaints() == []
    page.choose("input[type=file]", made / "photograph.png")
    page.wait(ANSWERED)


@pytest.mark.parametrize(
    "event",
    [
        "new ClipboardEvent('paste', {clipboardData: data})",
        "new DragEvent('drop', {dataTransfer: data, cancelable: true})",
    ],
)
def test_the_demo_takes_what_is_pasted_and_dropped(browser, demo, event):
    page = Page(browser, demo[0])
    picture = "new Promise(done => { const c = document.createElement('canvas'); c.width = 60; " \
        "c.getContext('2d').fillRect(9, 9, 9, 9); c.toBlob(done); })"  # fmt: skip
    give = "const data = new DataTransfer(); FILL; document.dispatchEvent(EVENT)"
    give = give.replace("EVENT", event)
    page.run(f"(() => {{ {give.replace('FILL', '')} }})()")
    page.wait(f"{TOLD}.startsWith('That was no file')")
    fill = "data.items.add(new File([blob], 'pasted.png'))"
    page.run(f"{picture}.then(blob => {{ {give.replace('FILL', fill)} }})")
    page.wait(f"{ANSWERED} && {TOLD} === 'pasted.png'")


def test_another_sites_page_is_refused(browser, made, demo, tmp_path):
    address, seen = demo
    file = tmp_path / "elsewhere.html"
    file.write_text("<!doctype html><title>elsewhere</title>")
    page, count = Page(browser, file.as_uri()), len(seen)
    send = "fetch('%sanswer', {method: 'POST', mode: 'no-cors', body: 'abc'})"
    assert page.run(f"{send % address}.then(r => r.type, error => error.name)") == "TypeError"
    assert len(seen) == count
    shutil.copy(made / "photograph.png", tmp_path / "a.png")
    mine = Page(browser, address)
    mine.choose("input[type=file]", tmp_path / "a.png")
    mine.wait(ANSWERED)
    assert len(seen) == count + 1


def test_a_foreign_name_that_leads_here_is_refused(browser, demo):
    """DNS rebinding: the browser takes the page for another site's own."""
    page = Page(browser, demo[0].replace("127.0.0.1", REBOUND))
    assert page.run("document.body.textContent").startswith("Refused: it is not known by this name")
