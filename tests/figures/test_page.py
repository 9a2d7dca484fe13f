"""Pages: what comes from elsewhere is shown and does nothing."""

import base64
import io

import numpy as np
from pages import HOSTILE, Elements
from PIL import Image

from fgvc_jax.figures.page import THUMBNAIL, escape, image, name, page


def test_texts_are_text():
    for made in (escape(HOSTILE), name(HOSTILE), f'<p title="{escape(HOSTILE)}"></p>'):
        assert set(Elements(made).tags) <= {"bdi", "p", "wbr"}
    assert Elements(name(HOSTILE)).text == "\"><script>alert(1)</script>\\n\\u202e'&amp;"


def test_a_page_asks_for_nothing_from_elsewhere():
    picture = Image.fromarray(np.zeros((10, 400, 3), np.uint8))
    text = page(HOSTILE, image(picture, HOSTILE))
    parsed = Elements(text)
    assert parsed.tags.count("script") == 0 and parsed.tags[-1] == "img"
    assert dict(parsed.attributes)["src"].startswith("data:image/jpeg;base64,")
    assert "default-src 'none'" in text and "http://" not in text and "https://" not in text
    assert 'name="viewport"' in text and "prefers-color-scheme: dark" in text
    assert picture.size == (400, 10)  # the thumbnail is a copy
    assert len(text) < 10_000 and THUMBNAIL < 400


def test_a_name_is_broken_between_its_words_first():
    assert ">001.Black_<wbr>footed_<wbr>Albatross</bdi>" in name("001.Black_footed_Albatross")
    assert ">a/<wbr>&lt;b_<wbr>c&gt;&#x27;</bdi>" in name("a/<b_c>'")


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
