"""The command line: what a user types, and what a typo answers."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from fgvc_jax import config, recipes
from fgvc_jax.config import Data, Experiment, Transfer
from fgvc_jax.training import experiments
from fgvc_jax.utils import command_line
from fgvc_jax.utils.errors import UserError


def test_no_arguments_give_a_first_run():
    assert experiments.parse([]) == recipes.first_run()


def test_every_group_can_be_overridden():
    experiment = experiments.parse(
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


@pytest.mark.parametrize(
    ("words", "flip", "detach"),
    [
        (["--data.flip"], True, False),
        (["--data.flip", "True"], True, False),
        (["--data.flip=True"], True, False),
        (["--data.flip", "False"], False, False),
        (["--data.flip", "false"], False, False),
        (["--data.flip=false"], False, False),
        (["--no-data.flip"], False, False),
        (["--hsd.detach", "--members", "2"], True, True),
        (["--hsd.detach", "--no-data.flip"], False, True),
        (["--hsd.detach", "--data.flip", "FALSE"], False, True),
        (["--data.flip", "--hsd.detach=TRUE"], True, True),
        (["--no-data.flip", "--data.flip"], True, False),
        (["--data.flip=True", "--data.flip", "False"], False, False),
    ],
)
def test_booleans_with_and_without_a_value(words, flip, detach):
    default = Experiment()
    default = dataclasses.replace(default, hsd=dataclasses.replace(default.hsd, detach=False))
    parsed = command_line.command_line(Experiment, words, program="x", default=default)
    assert (parsed.data.flip, parsed.hsd.detach) == (flip, detach)


@dataclasses.dataclass(frozen=True)
class Switches:
    hard_labels: bool = False
    """A switch of two words."""
    rows: tuple[str, ...] = ()
    """Words before a switch."""


def test_booleans_of_any_command():
    def read(*words):
        parsed = command_line.command_line(Switches, [*words], program="x", default=Switches())
        return parsed.hard_labels, parsed.rows

    assert read("--hard-labels") == read("--hard_labels") == (True, ())
    assert read("--hard_labels", "True") == read("--hard_labels=true") == (True, ())
    assert read("--no-hard-labels") == read("--no-hard_labels") == (False, ())
    assert read("--rows", "a", "b", "--hard-labels") == (True, ("a", "b"))
    assert read("--rows", "True", "--hard-labels", "--rows", "false") == (True, ("false",))
    assert read("--hard-labels", "--rows", "a") == (True, ("a",))
    for wrong, words in {
        "--no-rows": "'--no-rows'",
        "--hard-labels=1": "--hard-labels",
        "--no-hard-labels=True": "'--no-hard-labels=True'",
    }.items():
        with pytest.raises(UserError, match=words):
            read(wrong)


def test_overrides_win_over_the_config_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from fgvc_jax.config import Experiment\n"
        "def get_config():\n    return Experiment(members=7, epochs=2)\n"
    )
    experiment = experiments.parse(["--epochs", "4", "--config", str(file)])
    assert (experiment.members, experiment.epochs) == (7, 4)
    assert experiments.parse([f"--config={file}"]).members == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mebers", "3"], ["--mebers", "did you mean --members?"]),
        (["--transfer.alfa", "1"], ["did you mean --transfer.alpha?"]),
        (["--network", "resnet50"], ["did you mean --network."]),
        (["--learning-rate", "1"], ["did you mean --optimizer.learning-rate?"]),
        (["--confg", "tiny"], ["did you mean --config?"]),
        (["--zzzzz"], ["--zzzzz", "--help"]),
        (["extra"], ["'extra'"]),
        (["--members", "three"], ["--members", "three"]),
        (["--members"], ["--members"]),
        (["--transfer.name", "parallel"], ["--transfer.name", "parallel", "orthogonal"]),
        (["--members", "0"], ["--members is 0", "at least 1"]),
        (["--data.validation", "1.5"], ["--data.validation", "below 1"]),
        (["--optimizer.learning-rate", "nan"], ["--optimizer.learning-rate"]),
        (["--data.crop", "500"], ["--data.crop 500", "--data.resize"]),
        (
            ["--data.crop", "90", "--data.resize", "80"],
            ["--data.resize 80", "--data.test-view whole"],
        ),
        (["--network.name", "resnet_50"], ["--network.name", "unknown", "did you mean resnet50?"]),
        (
            ["--network.frozen", "stage9"],
            ["--network.frozen is 'stage9'", "stage2, stage3, stage4"],
        ),
        (["--network.frozen", "stage5"], ["--network.frozen stage5", "leaves nothing"]),
        (["--network.last-stride", "1", "--network.name", "vgg16"], ["--network.last-stride 1"]),
        (
            ["--network.stochastic-depth", "0.1"],
            ["--network.stochastic-depth 0.1", "leave it at 0"],
        ),
        (["--objective", "hsd", "--hsd.stages", "3"], ["--hsd.stages is (3,)", "2 to 5"]),
        (["--objective", "hsd", "--hsd.stages", "5"], ["--hsd.kd-weight 0", "--hsd.hard-labels"]),
        (["--objective", "kd", "--kd.teacher", ""], ["--kd.teacher is empty"]),
        (["--batch-size", "9", "--network.batch-norm-groups", "2"], ["not divisible"]),
        # Numbers that no run can have: each was a traceback, or trained for ever.
        (["--epochs", "1000000000"], ["--epochs is 1000000000", "at most"]),
        (["--members", "1000"], ["--members is 1000", "at most"]),
        (["--optimizer.warmup-steps", "1e20"], ["--optimizer.warmup-steps", "1e20"]),
        (["--optimizer.warmup-steps", "1" + 20 * "0"], ["--optimizer.warmup-steps", "at most"]),
        (["--data.classes", "1" + 20 * "0"], ["--data.classes", "at most"]),
        (["--seed", str(2**31)], ["--seed", "at most"]),
        (["--hsd.ramp", "inf"], ["--hsd.ramp is inf", "finite"]),
        (["--csdnet.ramp", "nan"], ["--csdnet.ramp is nan", "finite"]),
        (["--transfer.alpha", "1e400"], ["--transfer.alpha is inf", "finite"]),
        (["--transfer.alpha", "-1", "--transfer.weighting", "ratio"], ["rewards overlap", "fixed"]),
        (["--csdnet.crop-area", "0", "0"], ["--csdnet.crop-area", "above 0"]),
        (["--csdnet.crop-area", "0", "1"], ["--csdnet.crop-area", "above 0"]),
        (
            ["--objective", "csdnet", "--data.augment", "strong"],
            ["--data.mixup and --data.cutmix", "queue", "both to 0"],
        ),
        (
            ["--data.cutmix", "1", "--network.frozen", "stage3"],
            ["--data.mixup and --data.cutmix", "--network.frozen", "both to 0"],
        ),
        (
            ["--objective", "linear", "--data.augment", "standard"],
            ["--data.augment standard", "leave it at 'published'", "--objective ce"],
        ),
        (
            ["--objective", "knn", "--data.mixup", "0.2"],
            ["--data.mixup 0.2", "solved", "--objective ce"],
        ),
        (["--data.erase", "-0.5"], ["--data.erase is -0.5", "0 or more", "--data.augment"]),
        (["--data.augment", "heavy"], ["--data.augment", "published", "strong"]),
        (["--data.ratio", "0.5"], ["--data.ratio is 0.5", "at least 1"]),
        (["--config", "nowhere.py"], ["'nowhere.py'", "does not exist"]),
        (["--config="], ["--config needs a file or a name"]),
        (["--config"], ["--config needs a file or a name"]),
    ],
)
def test_a_mistake_is_one_clear_line(arguments, words):
    with pytest.raises(UserError) as error:
        experiments.parse(arguments)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "arguments",
    [
        ["--objective", "csdnet", "--data.mixup", "0", "--data.cutmix", "0"],
        ["--objective", "csdnet", "--data.augment", "standard"],
        ["--network.frozen", "stage3", "--data.mixup", "0", "--data.cutmix", "0"],
        ["--objective", "hsd"],
    ],
)
def test_what_is_not_mixed_is_augmented_by_every_method(arguments):
    """The way out that a refusal names works."""
    assert experiments.parse(["--data.augment", "strong", *arguments]).data.augment != "published"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "no function get_config"),
        ("get_config = 3", "no function get_config"),
        ("def get_config(): return 3", "returned no fgvc_jax.config.Experiment"),
        ("def get_config(): return 1 / 0", "ZeroDivisionError"),
        ("def get_config(): return {}['cub']", "failed: KeyError: 'cub'"),
        ("def get_config(): raise TypeError('mine')", "failed: TypeError: mine"),
        ("def get_config(:", "SyntaxError"),
        ("import nothing_like_it\n", "ModuleNotFoundError"),
        ("def get_config(dataset): pass", "'' does not fit get_config(dataset)"),
    ],
)
def test_a_broken_config_file_is_named(tmp_path, text, words):
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(UserError, match=re.escape(words)) as error:
        config.load_config(str(file))
    assert "broken.py" in str(error.value)


MINE = """
from fgvc_jax.config import Data, Experiment

def get_config(members: str = "7", dataset: str = "sketchbirds"):
    return Experiment(members=int(members), data=Data(source=dataset))
"""


def test_a_config_file_takes_arguments(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    assert config.load_config(str(file)).members == 7
    assert config.load_config(f"{file}:5").members == 5
    assert config.load_config(f"{file}:").members == 7
    loaded = config.load_config(f"{file}:5,cub:/data/CUB")
    assert (loaded.members, loaded.data.source) == (5, "cub:/data/CUB")
    assert experiments.parse(["--config", f"{file}:5", "--epochs", "2"]).members == 5
    with pytest.raises(UserError, match="'1,2,3' does not fit get_config"):
        config.load_config(f"{file}:1,2,3")
    with pytest.raises(UserError, match="failed: ValueError: .*'many'"):
        config.load_config(f"{file}:many")


@pytest.mark.parametrize("name", ["C:\\runs\\mine.py", "a:b/mine.py", "mine.py:old", "kt:mine"])
def test_a_path_may_have_a_colon(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(MINE)
    assert config.load_config(name).members == 7
    assert config.load_config(f"{name}:5").members == 5
    assert config.load_config(f"{file}:5").members == 5


def test_a_name_is_one_of_the_projects_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").write_text(MINE)
    assert config.load_config("tiny").workdir == "runs/tiny"
    assert config.load_config("./tiny").members == 7
    assert config.load_config("kt:cub,resnet50").workdir == "runs/kt_cub_resnet50"
    with pytest.raises(UserError, match="'tiny:1': '1' does not fit get_config()"):
        config.load_config("tiny:1")
    for missing in ("tinny", "kt.py:cub,resnet50", "x" * 300, "C:\\nowhere.py:cub", "\0"):
        with pytest.raises(UserError, match="does not exist.*csdnet, folder, hsd, .*tiny"):
            config.load_config(missing)


def test_an_installed_package_finds_the_projects_own(tmp_path):
    """As a wheel has them, configs inside the package; those beside it are of another project."""
    shutil.copytree(ROOT / "fgvc_jax", tmp_path / "fgvc_jax")
    shutil.copytree(ROOT / "configs", tmp_path / "fgvc_jax/configs")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/tiny.py").write_text("raise SystemExit('of another project')")
    code = "from fgvc_jax.config import load_config as load; print(load('tiny').workdir)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path / "configs",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("runs/tiny\n", "")


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text(MINE)
    assert experiments.parse(["--config=~/mine.py:2"]).members == 2


def written(tmp_path, expression):
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import replace\nfrom pathlib import Path\nimport numpy as np\n"
        "from fgvc_jax.config import Data, Experiment, Optimizer\n"
        "def with_hsd(**changes):\n"
        "    return replace(Experiment(), hsd=replace(Experiment().hsd, **changes))\n"
        f"def get_config(): return {expression}\n"
    )
    return str(file)


def test_a_config_may_have_a_list_for_a_tuple(tmp_path):
    """It ran once and could never continue: what the workdir gave back was another experiment."""
    loaded = config.load_config(written(
        tmp_path,
        "Experiment(workdir=Path('runs') / 'mine', epochs=1e2, label_smoothing=0,"
        " members=np.int64(2), optimizer=Optimizer(learning_rate=np.float32(0.5)),"
        " hsd=replace(Experiment().hsd, stages=[4, 5]),"
        " csdnet=replace(Experiment().csdnet, crop_area=[0.5, 1]))",
    ))  # fmt: skip
    assert loaded.hsd.stages == (4, 5) and loaded.csdnet.crop_area == (0.5, 1.0)
    assert (loaded.workdir, loaded.members, loaded.epochs) == ("runs/mine", 2, 100)
    assert isinstance(loaded.epochs, int) and isinstance(loaded.label_smoothing, float)
    saved = config.from_dict(json.loads(json.dumps(config.to_dict(loaded))))
    assert saved == loaded and not config.differences(saved, loaded)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("Experiment(epochs=2.5)", "--epochs is 2.5: it must be of type int"),
        ("Experiment(epochs=float('inf'))", "--epochs is inf: it must be of type int"),
        ("Experiment(members='3')", "--members is '3': it must be of type int"),
        ("Experiment(members=True)", "--members is True: it must be of type int"),
        ("Experiment(data=Data(flip=1))", "--data.flip is 1: it must be of type bool"),
        ("Experiment(data='cub')", "--data is 'cub': it must be of type Data"),
        ("Experiment(seed=None)", "--seed is None: it must be of type int"),
        ("Experiment(fusion=1)", "--fusion is 1: it must be of type "),
        ("with_hsd(stages=4)", "--hsd.stages is 4: it must be of type tuple[int, ...]"),
        ("with_hsd(stages=['5'])", "--hsd.stages is '5': it must be of type int"),
        ("with_hsd(temperature='3')", "--hsd.temperature is '3': it must be of type float"),
    ],
)
def test_a_config_with_a_value_of_another_type_is_refused(tmp_path, expression, words):
    with pytest.raises(UserError, match=re.escape(words)):
        config.load_config(written(tmp_path, expression))


def test_saved_and_read_again():
    experiment = experiments.parse(["--hsd.stages", "4", "5", "--seed", "3"])
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
    assert list(map(str, config.differences(old, new))) == [
        "--seed 0 -> 1",
        "--transfer.alpha 0.5 -> 0.1",
    ]
