"""Images that another run was trained on are counted, by content or by name."""

from types import SimpleNamespace

import numpy as np
import pytest

from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.training_images import keep, marks, trained_on

CONTENTS = [bytes([i]) * 32 for i in range(5)]


class Images:
    labels = ids = np.zeros(5, np.int32)

    def __init__(self, *names, size=7):
        self.names, self.size = names, size

    def stat(self, index):
        return self.size, 0


NAMES = "a", "b", "c", "d", "e"
OTHERS = "v", "w", "x", "y", "z"


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path)


def test_contents_decide_where_both_are_known(workdir):
    keep(workdir, marks(Images(*NAMES[:3]), CONTENTS[:3]))
    moved = Images(*OTHERS)
    assert trained_on(workdir, None, marks(moved, CONTENTS)) == 3
    assert trained_on(workdir, None, marks(moved, None)) == 0
    changed = [b"!" + content[1:] for content in CONTENTS]
    assert trained_on(workdir, None, marks(Images(*NAMES), changed)) == 0


def test_names_and_sizes_stand_for_what_nobody_read(workdir):
    keep(workdir, marks(Images(*NAMES[:2]), None))
    assert trained_on(workdir, None, marks(Images(*NAMES), CONTENTS)) == 2
    assert trained_on(workdir, None, marks(Images(*NAMES, size=8), CONTENTS)) == 0


def test_contents_that_a_later_start_reads_are_kept(workdir):
    own = Images(*NAMES[:3])
    for contents, found in ((None, 0), (CONTENTS[:3], 3), (None, 3)):
        keep(workdir, marks(own, contents))
        assert trained_on(workdir, None, marks(Images(*OTHERS), CONTENTS)) == found


@pytest.mark.parametrize("what", ["missing", "cut", "strange"])
def test_without_a_list_only_a_run_on_the_same_images_is_known(workdir, monkeypatch, what):
    if what == "cut":
        keep(workdir, marks(Images(*NAMES), CONTENTS))
        content = workdir.training_images.read_bytes()
        workdir.training_images.write_bytes(content[:100])
    elif what == "strange":
        np.save(workdir.training_images, np.zeros((5, 3)))

    def record(digest):
        return SimpleNamespace(digests={"train": {"names": digest, "contents": None}})

    monkeypatch.setattr(Workdir, "record", lambda self: record("one"))
    part = marks(Images(*NAMES), CONTENTS)
    assert trained_on(workdir, record("one"), part) == 0
    assert trained_on(workdir, record("other"), part) is None
