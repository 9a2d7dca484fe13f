"""Every template: hostile texts stay texts in it, and what it asks for it must have got."""

import numpy as np
import pytest
from jinja2 import UndefinedError, meta
from PIL import Image
from test_numbers import example
from test_page import HOSTILE, SEEN, Elements

from fgvc_jax.data.soundness import Finding, Picture
from fgvc_jax.figures import page
from fgvc_jax.figures.demo import demo_page
from fgvc_jax.figures.inspection import inspection_page
from fgvc_jax.figures.report import report_page

TEMPLATES = {name for name in page._TEMPLATES.list_templates() if name.endswith(".html")}
LONG = HOSTILE + "a" * 48  # whose whole is in a title
PLAIN = "a" * len(LONG)


class Pictures:
    """Stands for all pictures: one, or none."""

    def show(self, index, alternative, side=page.THUMBNAIL):
        return page.image(Image.new("RGB", (4, 4)), alternative, side)

    def spotlight(self, index, member, alternative):
        return page.no_image(alternative)


def pages(text):
    """A page of every kind, each with everything that it can have, whose texts are this one."""
    group = [Picture("train", i, text, 0, remarks=(text,)) for i in range(9)]
    return {
        "report": report_page(example(text), Pictures()),
        "inspection": inspection_page(
            text,
            classes=[text, text],
            counts={part: np.array([2, 1]) for part in ("train", "validation", "test")},
            findings=[Finding("look", text, text, groups=[group] * 25, lines=[text] * 41)],
            examples={0: group[0]},
            show=lambda _, alternative: page.no_image(alternative),
        ),
        "demo": demo_page(text, 2, members=2, most_bytes=2**20),
    }


@pytest.fixture
def rendered(monkeypatch):
    """(template, values) of each template that was rendered for the pages."""
    calls, get = [], page._TEMPLATES.get_template

    class Recorded:
        def __init__(self, name):
            self._name = name

        def render(self, values):
            calls.append((self._name, values))
            return get(self._name).render(values)

    monkeypatch.setattr(page, "_TEMPLATES", page._TEMPLATES.overlay())
    monkeypatch.setattr(page._TEMPLATES, "get_template", Recorded)
    pages(LONG)
    monkeypatch.undo()
    return calls


def parts(name):
    """A template and those that it extends or imports from, directly or not."""
    source = page._LOADER.get_source(page._TEMPLATES, name)[0]
    used = meta.find_referenced_templates(page._TEMPLATES.parse(source))
    return {name}.union(*map(parts, used))


def test_the_pages_have_every_template_in_them(rendered):
    assert set().union(*(parts(name) for name, _ in rendered)) == TEMPLATES


@pytest.mark.parametrize("kind", ["report", "inspection", "demo"])
def test_hostile_texts_change_nothing_but_the_text(kind):
    """Elements and attributes are those of a page whose texts are harmless and as long."""
    hostile, harmless = (Elements(pages(text)[kind]) for text in (LONG, PLAIN))
    assert [tag for tag in hostile.tags if tag != "wbr"] == harmless.tags
    whole, shown = SEEN + "a" * 48, 0
    assert whole in hostile.text
    for (key, one), (same, other) in zip(hostile.attributes, harmless.attributes, strict=True):
        assert key == same
        if other and PLAIN in other:
            assert whole in one or whole.rpartition("/")[2] in one  # a file without its folder
            shown += 1
        else:
            assert one == other
    assert shown


def test_hostile_texts_are_texts_in_each_template(rendered):
    for name, values in rendered:
        text = page.render(name, **values)
        assert "<script>alert" not in text and "\u202e" not in text, name


def test_what_a_template_asks_for_it_must_have_got(rendered):
    tried = set()
    for name, values in rendered:
        source = page._LOADER.get_source(page._TEMPLATES, name)[0]
        asked = meta.find_undeclared_variables(page._TEMPLATES.parse(source)) & set(values)
        for left_out in asked - {key for template, key in tried if template == name}:
            with pytest.raises((UndefinedError, TypeError), match="is undefined|StrictUndefined"):
                page.render(name, **{k: v for k, v in values.items() if k != left_out})
            tried.add((name, left_out))
        assert set(values) == asked, name  # nothing is handed over for nothing
    assert len(tried) > 40


def test_style_sheets_and_scripts_are_no_templates():
    """No value gets into one, and none can end its element."""
    for name in page._TEMPLATES.list_templates():
        if name not in TEMPLATES:
            source = page._LOADER.get_source(page._TEMPLATES, name)[0]
            assert not {"{{", "{%", "{#", "</"} & {source[i : i + 2] for i in range(len(source))}
