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
    """Wide tables and code scroll by themselves; what is lazy is looked at as well."""
    server = Server(site)
    with Browser(tmp_path) as browser:
        for path in sorted(site.rglob("*.html")):
            url = f"{server.url}{path.relative_to(site)}"
            page = Page(browser, url, width=width, dark=dark)
            assert not page.overflows(), path
            page.run("[...document.images].forEach(image => image.loading = 'eager')")
            page.wait("[...document.images].every(image => image.complete)")
            assert page.run("[...document.images].every(image => image.naturalWidth)"), path
            scheme = page.run("document.body.dataset.mdColorScheme")
            assert scheme == ("slate" if dark else "default"), path
            assert page.complaints() == [], path
            assert all(each.startswith(server.url) for each in page.requests()), path
    server.close()
