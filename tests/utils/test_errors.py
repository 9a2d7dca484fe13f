import errno

import pytest

from fgvc_jax.utils.errors import Interrupted, UserError, first_line, one_line_errors, reason


def test_what_the_system_refuses_names_the_place_and_the_cause(tmp_path):
    with (
        pytest.raises(UserError, match=r"run' cannot be written \(Permission denied\): name anoth"),
        one_line_errors(tmp_path / "run"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_by_the_command_and_not_as_a_wrong_place(tmp_path, code):
    with pytest.raises(OSError), one_line_errors(tmp_path):
        raise OSError(code, "full")


def test_an_interruption_is_taken_for_no_error():
    stopped = Interrupted(15, "saved")
    assert stopped.signal_number == 15 and not isinstance(stopped, Exception)


def test_an_error_fits_into_one_line():
    assert first_line(ValueError("first\nsecond")) == "first"
    assert first_line(ValueError()) == "ValueError"
    assert len(first_line(ValueError("x" * 1000))) == 200
    assert reason(OSError(errno.ENOENT, "no such file")) == "no such file"
    assert reason(ValueError("damaged")) == "damaged"
