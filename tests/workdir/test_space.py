import shutil
from types import SimpleNamespace

import pytest

from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import space


def test_space_is_that_of_the_disk_that_a_folder_will_be_on(tmp_path, monkeypatch):
    asked = []
    usage = SimpleNamespace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: asked.append(folder) or usage)
    assert space.free_space(tmp_path / "not/yet/there") == 2**20 and asked == [tmp_path]
    space.check_space(tmp_path, 2**20)
    with pytest.raises(UserError, match="needs 1.5 MiB, 1.0 are free; free some, then the same"):
        space.check_space(tmp_path, 3 * 2**19)


def test_a_name_that_no_disk_can_have_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be used .File name too long."):
        space.existing(tmp_path / ("x" * 300))
