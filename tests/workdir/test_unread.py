"""What a run remembers of images that cannot be read."""

import pytest

from fgvc_jax.data.left_out import LeftOut
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import Workdir, storage, unread

IMAGE = LeftOut("test", "a/1.jpg", "image 'a/1.jpg' is empty")


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return Workdir(tmp_path)


def test_what_was_left_out_is_remembered_by_a_run(workdir):
    assert unread.left_out(workdir) == [] and unread.suspects(workdir) == set()
    unread.keep(workdir, [])
    assert not (workdir.path / unread.FILE).exists()
    unread.keep(workdir, [IMAGE])
    assert unread.left_out(workdir) == [IMAGE]
    storage.write_json(workdir.broken, {"images": ["/data/b/2.jpg"]})
    assert unread.suspects(workdir) == {"a/1.jpg", "/data/b/2.jpg"}
    workdir.config.unlink()  # what a start that never came to be has left
    assert unread.left_out(workdir) == []


@pytest.mark.parametrize("content", ["[1]", '{"name": 1}', '[{"name": "x"}]', "{", "7"])
def test_a_damaged_list_is_one_line(workdir, content):
    (workdir.path / unread.FILE).write_text(content)
    with pytest.raises(UserError, match="left_out.json"):
        unread.left_out(workdir)
    workdir.broken.write_text("[]")
    (workdir.path / unread.FILE).unlink()
    assert unread.suspects(workdir) == set()
