"""The command line: what a user types, and what a typo answers."""

import dataclasses
import json
import subprocess
import sys

import pytest

from fgvc_jax import config, options
from fgvc_jax.config import Data, Experiment, Transfer
from fgvc_jax.errors import UserError


def test_no_arguments_give_the_defaults():
    assert config.parse([]) == Experiment()


def test_every_group_can_be_overridden():
    experiment = config.parse(
        ["--members", "5", "--batch-size=8", "--data.images-per-class", "3", "--data.flip", "False"]
        + ["--objective", "hsd", "--hsd.stages", "4", "5", "--transfer.alpha", "0.1"]
        + ["--optimizer.head-learning-rate", "0.01"]
    )
    assert experiment.members == 5
    assert experiment.batch_size == 8
    assert experiment.data == Data(images_per_class=3, flip=False)
    assert experiment.objective == "hsd"
    assert experiment.hsd.stages == (4, 5)
    assert experiment.transfer == Transfer(alpha=0.1)
    assert experiment.optimizer.head_learning_rate == 0.01


def test_overrides_win_over_the_config_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from fgvc_jax.config import Experiment\n"
        "def get_config():\n    return Experiment(members=7, epochs=2)\n"
    )
    experiment = config.parse(["--epochs", "4", "--config", str(file)])
    assert (experiment.members, experiment.epochs) == (7, 4)
    assert config.parse([f"--config={file}"]).members == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mebers", "3"], ["--mebers", "did you mean --members?"]),
        (["--transfer.alfa", "1"], ["did you mean --transfer.alpha?"]),
        (["--learning-rate", "1"], ["did you mean --optimizer.learning-rate?"]),
        (["--zzzzz"], ["--zzzzz", "--help"]),
        (["extra"], ["'extra'"]),
        (["--members", "three"], ["--members", "three"]),
        (["--members"], ["--members"]),
        (["--transfer.name", "parallel"], ["--transfer.name", "parallel", "orthogonal"]),
        (["--members", "0"], ["--members is 0", "at least 1"]),
        (["--data.validation", "1.5"], ["--data.validation", "below 1"]),
        (["--optimizer.learning-rate", "nan"], ["--optimizer.learning-rate"]),
        (["--data.crop", "500"], ["--data.crop 500", "--data.resize"]),
        (["--batch-size", "9", "--network.batch-norm-groups", "2"], ["not divisible"]),
        (["--config", "nowhere.py"], ["'nowhere.py'", "does not exist"]),
        (["--config"], ["--config needs a file"]),
    ],
)
def test_a_mistake_is_one_clear_line(arguments, words):
    with pytest.raises(UserError) as error:
        config.parse(arguments)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "no function get_config"),
        ("def get_config(): return 3", "returned no fgvc_jax.config.Experiment"),
        ("def get_config(): return 1 / 0", "ZeroDivisionError"),
        ("def get_config(:", "SyntaxError"),
        ("import nothing_like_it\n", "ModuleNotFoundError"),
    ],
)
def test_a_broken_config_file_is_named(tmp_path, text, words):
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(UserError, match=words) as error:
        config.load_config(str(file))
    assert "broken.py" in str(error.value)


def test_saved_and_read_again():
    experiment = config.parse(["--hsd.stages", "4", "5", "--seed", "3"])
    saved = json.loads(json.dumps(config.to_dict(experiment)))
    assert config.from_dict(saved) == experiment


def test_unknown_saved_field_is_refused():
    saved = config.to_dict(Experiment())
    saved["data"]["colour"] = 1
    with pytest.raises(UserError, match="'colour'"):
        config.from_dict(saved)


def test_differences_name_fields_that_change_results():
    old = Experiment()
    new = dataclasses.replace(
        old, seed=1, workdir="elsewhere", log_every=3, transfer=Transfer(alpha=0.1)
    )
    assert config.differences(old, new) == ["--seed 0 -> 1", "--transfer.alpha 0.5 -> 0.1"]


def test_help_is_complete():
    code = "from fgvc_jax import config; config.parse(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for flag, spec, _ in options.fields(Experiment()):
        assert flag in done.stdout, flag
        assert spec.name
    assert "--config" in done.stdout
