"""Every template: hostile texts stay texts in it, and what it asks for it must have got."""

import pytest
from all_pages import pages
from jinja2 import UndefinedError, meta
from pages import HOSTILE, SEEN, Elements

from fgvc_jax.figures import page

TEMPLATES = {name for name in page._TEMPLATES.list_templates() if name.endswith(".html")}
LONG = HOSTILE + "a" * 48  # whose whole is in a title
PLAIN = "a" * len(LONG)


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


@pytest.mark.parametrize("kind", ["report", "inspection", "explained", "demo", "fitted", "site"])
def test_hostile_texts_change_nothing_but_the_text(kind):
    """Elements and attributes are those of a page whose texts are harmless and as long."""
    hostile, harmless = (Elements(pages(text)[kind]) for text in (LONG, PLAIN))
    tags = [[tag for tag in each.tags if tag != "wbr"] for each in (hostile, harmless)]
    assert tags[0] == tags[1]
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
