"""What is written later counts as later, whatever a clock says."""

import pytest

from fgvc_jax.study import instants


def at(ended):
    return {"ended": ended, "status": "finished"}


@pytest.mark.parametrize(
    ("there", "own", "entered"),
    [
        ([], "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"),
        (["2026-01-01T00:00:00+00:00"], "2026-01-01T00:00:01+00:00", "2026-01-01T00:00:01+00:00"),
        (["2026-01-01T00:00:00+00:00"], "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"),
        (["2026-01-01T00:00:00+00:00"], "2025-12-31T23:00:00+00:00", "2026-01-01T00:00:01+00:00"),
        (
            ["2026-01-01T09:00:00+09:00", "2025-01-01T00:00:00"],
            "2025-12-31T23:00:00+00:00",
            "2026-01-01T00:00:01+00:00",
        ),
    ],
)
def test_a_line_is_no_older_than_what_is_there(there, own, entered, caplog):
    found = instants.after([at(ended) for ended in there], at(own))
    assert found == at(entered)
    assert ("is the clock right?" in caplog.text) is (own != entered)


def test_now_is_an_instant():
    assert instants.instant(at(instants.now())).utcoffset().total_seconds() == 0
