import json

import jax.numpy as jnp
import pytest

from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import journal
from fgvc_jax.workdir.journal import Journal


def write(folder, values, start=0, every=2):
    book = Journal(
        folder, title="m", start=start, total=start + len(values), images_per_step=4, write=True
    )
    for step, value in enumerate(values, start + 1):
        book.step({"loss": jnp.float32(value), "accuracy": jnp.float32(0.5)})
        if step % every == 0:
            book.flush({"step": step, "epoch": 1}, now=step == start + len(values))
    book.close()


def test_lines_are_means_of_their_window(tmp_path):
    write(tmp_path, [1, 3, 5, 7])
    lines = journal.read(tmp_path / "metrics.jsonl")
    assert [(line["step"], line["loss"]) for line in lines] == [(2, 2.0), (4, 6.0)]
    assert all(line["images_per_second"] > 0 for line in lines)


def test_continuing_drops_what_comes_after_the_checkpoint(tmp_path):
    write(tmp_path, [1, 1, 1, 1, 1, 1])
    write(tmp_path, [2, 2, 2, 2], start=2)
    lines = journal.read(tmp_path / "metrics.jsonl")
    assert [(line["step"], line["loss"]) for line in lines] == [(2, 1.0), (4, 2.0), (6, 2.0)]


def test_rates_count_the_steps_and_the_time_of_their_own_window(tmp_path, monkeypatch):
    """The first step compiles and is not timed; a window ends when it is computed, not when it is
    fetched, and an array that is ready says so when the next step is noted."""
    now = 0.0
    monkeypatch.setattr(journal.time, "perf_counter", lambda: now)
    book = Journal(tmp_path, title="m", start=0, total=4, images_per_step=4, write=True)
    for step, now in enumerate([10.0, 11.0, 12.0, 20.0], 1):  # noqa: B007  the clock reads it
        book.step({"loss": jnp.float32(1), "accuracy": jnp.float32(0.5)})
        if step == 1:
            book.restart_clock()
        if step >= 3:
            book.flush({"step": step, "epoch": 1}, now=step == 4)
    book.close()
    lines = journal.read(tmp_path / "metrics.jsonl")
    assert [line["seconds"] for line in lines] == [2.0, 8.0]
    assert [line["images_per_second"] for line in lines] == [2 * 4 / 2.0, 4 / 8.0]


def test_a_window_of_the_first_step_alone_has_no_rate(tmp_path):
    book = Journal(tmp_path, title="m", start=0, total=1, images_per_step=4, write=True)
    book.step({"loss": jnp.float32(1), "accuracy": jnp.float32(0.5)})
    book.restart_clock()
    book.flush({"step": 1, "epoch": 1}, now=True)
    book.close()
    (line,) = journal.read(tmp_path / "metrics.jsonl")
    assert "images_per_second" not in line


def test_a_line_cut_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "lo')
    assert journal.read(path) == [{"step": 1}]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_step_that_is_not_finite_is_named(tmp_path, bad):
    with pytest.raises(UserError, match="loss is not finite at step 3"):
        write(tmp_path, [1, 1, bad, bad])


def test_a_damaged_line_takes_no_other_with_it(tmp_path):
    """One bad line made a resume drop all after it."""
    path = tmp_path / "metrics.jsonl"
    good = [{"step": step, "loss": 1.0} for step in (1, 2, 3)]
    words = [json.dumps(line) for line in good]
    path.write_bytes("\n".join([words[0], '{"st\xff', "3", words[1], "[]", words[2], ""]).encode())
    assert journal.read(path) == good
    write(tmp_path, [2, 2], start=3, every=1)
    assert [line["step"] for line in journal.read(path)] == [1, 2, 3, 4, 5]


def test_a_journal_becomes_epochs():
    lines = [
        {"step": 1, "epoch": 1, "loss": 2.0},
        {"step": 2, "epoch": 1, "loss": 1.0},
        {"step": 2, "epoch": 1, "test_accuracy": 0.5},
        {"step": 3, "epoch": 2, "loss": None},
    ]
    assert journal.by_epoch(lines) == [
        {"epoch": 1, "loss": 1.5, "test_accuracy": 0.5},
        {"epoch": 2},
    ]
