"""Pages: what comes from elsewhere is shown and does nothing."""

import base64
import hashlib
import io

import numpy as np
import pytest
from jinja2 import UndefinedError
from pages import HOSTILE, SEEN, Elements
from PIL import Image

from fgvc_jax.figures import page
from fgvc_jax.figures.page import THUMBNAIL, image, no_image, percent, thousands


def made(source, **values):
    """What a template of this source makes of values."""
    return page._TEMPLATES.from_string(source).render(values)


def name(text):
    return made('{% from "parts.html" import name %}{{ name(text) }}', text=text)


def test_texts_are_text():
    for source in ("{{ text }}", '<p title="{{ text }}"></p>', "<p title='{{ text }}'></p>"):
        parsed = Elements(made(source, text=HOSTILE))
        assert set(parsed.tags) <= {"p"}
        assert parsed.text == SEEN or parsed.attributes == [("title", SEEN)]
    parsed = Elements(name(HOSTILE))
    assert set(parsed.tags) == {"bdi", "wbr"} and parsed.text == SEEN


def test_what_a_template_has_made_is_html_once_and_is_not_escaped_again():
    inner = page.render("picture.html", address=None, alternative="<a>")
    assert made("{{ inner }}", inner=inner) == inner
    assert "&lt;a&gt;" in inner and "<a>" not in inner


def test_what_was_not_given_is_an_error():
    with pytest.raises(UndefinedError, match="'alternative' is undefined"):
        page.render("picture.html", address=None)
    for source in ("{{ a.b }}", "{% if b %}{% endif %}", "{% for c in b %}{% endfor %}"):
        with pytest.raises(UndefinedError):
            made(source, a={})


def test_a_page_asks_for_nothing_from_elsewhere():
    picture = Image.fromarray(np.zeros((10, 400, 3), np.uint8))
    text = made(
        '{% extends "page.html" %}'
        '{% set styles, scripts, connect, title = [], "", "none", hostile %}'
        "{% block body %}{{ image }}{% endblock %}",
        hostile=HOSTILE,
        image=image(picture, HOSTILE),
    )
    parsed = Elements(text)
    assert parsed.tags.count("script") == 0 and parsed.tags[-1] == "img"
    assert dict(parsed.attributes)["src"].startswith("data:image/jpeg;base64,")
    assert dict(parsed.attributes)["alt"] == SEEN and SEEN in parsed.text
    assert "default-src 'none'" in text and "http://" not in text and "https://" not in text
    assert 'name="viewport"' in text and "prefers-color-scheme: dark" in text
    assert picture.size == (400, 10)  # the thumbnail is a copy
    assert len(text) < 10_000 and THUMBNAIL < 400


def test_a_script_is_known_by_its_digest_and_stands_as_it_is_in_its_file():
    text = made(
        '{% extends "page.html" %}'
        '{% set styles, scripts, connect, title = [], ["report.js"], "self", "a" %}'
        "{% block body %}{% endblock %}"
    )
    script = text.partition("<script>")[2].partition("</script>")[0]
    assert script.encode() == page._LOADER.get_source(page._TEMPLATES, "report.js")[0].encode()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"connect-src 'self'; script-src 'sha256-{digest}'\">" in text


def test_a_name_is_broken_between_its_words_first():
    assert ">001.<wbr>Black_<wbr>footed_<wbr>Albatross</bdi>" in name("001.Black_footed_Albatross")
    assert ">a/<wbr>&lt;b_<wbr>c&gt;&#39;</bdi>" in name("a/<b_c>'")


def test_of_a_long_name_all_is_told():
    assert "title" not in name("a" * 48) and f'title="{"a" * 49}"' in name("a" * 49)


def test_numbers_in_words():
    assert thousands(1234567) == "1,234,567"
    assert (percent(0.12345), percent(0.5, 0), percent(None)) == ("12.3%", "50%", "-")


def test_a_missing_picture_is_a_word():
    parsed = Elements(no_image(HOSTILE))
    assert parsed.tags == ["span"] and parsed.text == "no picture"
    assert dict(parsed.attributes)["aria-label"] == SEEN


def test_a_thumbnail_carries_nothing_but_pixels():
    """What a camera or a phone wrote into the photograph stays there."""
    exif = Image.Exif()
    exif[0x010E] = "at home"
    told, file = {"comment": b"48.137N 11.575E", "exif": exif, "dpi": (301, 301)}, io.BytesIO()
    noise = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "JPEG", icc_profile=b"my scanner", **told)
    with Image.open(file) as photograph:
        made = image(photograph.convert("RGB"), "")
        assert "comment" in photograph.info
    encoded = base64.b64decode(made.split("base64,")[1].split('"')[0])
    with Image.open(io.BytesIO(encoded)) as small:
        assert set(small.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
