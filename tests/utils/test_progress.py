"""Bars on a terminal, and none where they are hidden."""

import io

from fgvc_jax.utils import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bars_are_shown_on_a_terminal_until_they_are_hidden():
    def drawn(file, **options):
        progress.bar(total=3, desc="steps", file=file, **options).close()
        return "steps" in file.getvalue()

    assert drawn(Terminal()) and not drawn(io.StringIO())
    assert not drawn(Terminal(), disable=True)
    with progress.hidden():
        assert not drawn(Terminal())
        with progress.hidden(False):
            assert drawn(Terminal())
        assert not drawn(Terminal(), disable=False)
    assert drawn(Terminal())
