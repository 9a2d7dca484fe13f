"""The site of docs/: it is built without a warning, has what it should, and asks nobody."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from browser import Browser, Page, Server, needs_browser
from conftest import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mkdocs") is None, reason="pip install -e '.[docs]'"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_it_has_its_pages(site):
    pages = {str(path.relative_to(site)) for path in site.rglob("*.html")}
    assert len(pages) >= 12
    assert {"index.html", "studies/RESULTS.html", "reference/commands.html"} <= pages
    assert "--network.start" in (site / "reference/commands.html").read_text()
    assert "Train an experiment to its end" in (site / "reference/python.html").read_text()
    assert "fgvc_jax.fit" in (site / "guides/from_python.html").read_text()
    assert (site / "guides/from_python.ipynb").is_file()
    assert (site / "studies/figures/differences.svg").is_file()


def test_lists_are_lists(site):
    """In Markdown a list begins behind an empty line, or it is a long sentence."""
    for page in site.rglob("*.html"):
        assert not re.search(r"<p>[^<]*\n- ", page.read_text()), page


def test_a_sentence_and_a_command_are_whole(site):
    """A line that begins with a comment ends the paragraph before it; a command is no text."""
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not re.search(r"[^.\s]</p>\s*<!--\S", text), page
        assert not re.search(r"<p>python (scripts|-m)", text), page


def test_a_docstring_is_read_as_it_is_meant(site):
    """A type that is cut out of "(B, K) float32: ..." has lost its first bracket."""
    codes = re.findall("<code>([^<]*)</code>", (site / "reference/python.html").read_text())
    assert codes and not [each for each in codes if each.count("(") != each.count(")")]


def test_options_are_a_list(site):
    """Which a telephone has room for, and all of them: each flag of --help-all."""
    text = (site / "reference/commands.html").read_text()
    said = subprocess.run(
        [sys.executable, "-m", "fgvc_jax.train", "--help-all"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    flags = re.findall(r"^  (--[\w.-]+)", said, re.M)
    listed = re.findall(r"<dt><code>.*?(--[\w.-]+)", text)
    assert flags and listed[: len(flags)] == flags


def test_it_asks_nobody_for_anything(site):
    for page in site.rglob("*.html"):
        asked = re.findall(r"<(?:script|img|link|iframe)[^>]+https?://[^>]+>", page.read_text())
        assert not [each for each in asked if 'rel="canonical"' not in each], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url|@import)[^;]*https?://", sheet.read_text()), sheet


def test_links_lead_somewhere(site):
    """Those between pages; mkdocs itself looks only at those that it knows to be pages."""
    for page in site.rglob("*.html"):
        for aim in re.findall(r'<a[^>]+href="([^"#:]+?)(?:#[^"]*)?"', page.read_text()):
            if page.name != "404.html":
                assert (page.parent / aim).resolve().exists(), (page, aim)


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_no_page_is_wider_than_a_window_or_lacks_a_picture(site, tmp_path, width, dark):
    """Wide tables scroll by themselves, code is broken; what is lazy is looked at as well."""
    server = Server(site)
    with Browser(tmp_path) as browser:
        for path in sorted(site.rglob("*.html")):
            url = f"{server.url}{path.relative_to(site)}"
            page = Page(browser, url, width=width, dark=dark)
            assert not page.overflows(), path
            code = "[...document.querySelectorAll('pre > code')]"
            assert page.run(f"{code}.every(each => each.scrollWidth <= each.clientWidth)"), path
            page.run("[...document.images].forEach(image => image.loading = 'eager')")
            page.wait("[...document.images].every(image => image.complete)")
            assert page.run("[...document.images].every(image => image.naturalWidth)"), path
            scheme = page.run("document.body.dataset.mdColorScheme")
            assert scheme == ("slate" if dark else "default"), path
            assert page.complaints() == [], path
            assert all(each.startswith(server.url) for each in page.requests()), path
    server.close()


@needs_browser
def test_a_page_is_as_dark_as_the_system_is_now(site, tmp_path):
    """Not as it was at the first visit, which the theme keeps; there is no switch to undo that."""
    server = Server(site)
    scheme = "document.body.dataset.mdColorScheme"
    with Browser(tmp_path) as browser:
        page = Page(browser, f"{server.url}index.html")
        assert page.run(scheme) == "default"
        page.prefers(dark=True)
        page.wait(f"{scheme} === 'slate'")
        assert Page(browser, f"{server.url}note.html", dark=True).run(scheme) == "slate"
        assert Page(browser, f"{server.url}note.html").run(scheme) == "default"
    server.close()
