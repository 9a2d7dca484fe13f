"""The benchmark's tables, and that its PyTorch side computes the same training step as ours."""

import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, tiny

from fgvc_jax import config
from fgvc_jax.config import Data, Network, Optimizer, Transfer
from fgvc_jax.networks.weights import export_torch
from fgvc_jax.training.run import Run
from fgvc_jax.utils.devices import shard_batch
from fgvc_jax.utils.errors import UserError

pytestmark = pytest.mark.slow

sys.path.insert(0, str(ROOT / "scripts"))
import bench  # noqa: E402
from benchmarks import common, ensemble, input, job, predict, python, record, step  # noqa: E402


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Expected one of .*step"),
        (["nosuch"], "nosuch Available subcommands: step"),
        (["python", "--stps", "5"], "--stps, 5 Perhaps you meant: steps"),
        (["python", "--repetitions", "0"], "--repetitions is 0: it must be above 0"),
        (["compiled", "--images-per-device", "0"], "--images-per-device is 0"),
        (["compiled", "--rows", "nosuch"], "--rows knows no 'nosuch'"),
        (["device", "--minutes", "-1"], "--minutes is -1.0: it must be above 0"),
        (["device", "--minutes", "nine"], "--minutes: invalid float value: 'nine'"),
        (["device", "--parts", "nosuch"], "--parts: invalid choice: 'nosuch'"),
    ],
)
def test_mistakes_are_one_line(words, told, monkeypatch):
    monkeypatch.setattr("benchmarks.topologies.use_cpu", lambda _: None)
    with pytest.raises(UserError, match=told) as error:
        bench.main(words)
    assert "\n" not in str(error.value)


def test_spread_is_median_and_quartiles():
    assert common.spread([5.0, 1.0, 2.0, 4.0, 3.0], ".1f") == "3.0 [2.0, 4.0]"
    assert common.spread([2.0], ".0f") == "2 [2, 2]"


def test_ratios_are_taken_within_a_repetition():
    assert common.ratios([2.0, 30.0], [1.0, 10.0]) == [2.0, 3.0]


def test_rows_run_in_turn_and_the_first_repetition_does_not_count():
    calls = []
    rows = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    found = common.measure(rows, common.Common(repetitions=2))
    assert "".join(calls) == "abbaab"
    assert found == {"a": [4, 5], "b": [3, 6]}


def test_a_header_does_not_tell_where_things_are():
    spec = job.Job(source="cub:/somewhere", torch_python="/elsewhere/python")
    assert "/" not in record.options(spec)
    assert "source=cub" in record.options(spec)


def test_a_section_takes_the_place_of_the_one_with_its_title(tmp_path):
    path = tmp_path / "BENCHMARKS.md"
    for title, body in (("step: a", "one"), ("job: b", "two"), ("step: a", "three")):
        record.write(title, body, path)
    text = path.read_text()
    assert text.startswith("# Benchmarks\n")
    assert text.endswith("## step: a\n\nthree\n\n## job: b\n\ntwo\n")


def test_torch_computes_the_same_two_training_steps(tmp_path):
    """Losses and weights after two steps of a second member against one online teacher."""
    torch = pytest.importorskip("torch")
    import torch_kt
    from safetensors.torch import load_file

    run = Run(
        tiny(
            members=2,
            batch_size=4,
            data=Data(resize=64, crop=64, pad=0, flip=False, classes=4, images_per_class=8),
            network=Network(name="resnet18", head_width=16, dtype="float32"),
            transfer=Transfer(maps="online"),
            optimizer=Optimizer(learning_rate=0.001, head_learning_rate=0.01),
        )
    )
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(4, 64, 64, 3), dtype=np.uint8)
    batch = {"image": images, "label": np.arange(4, dtype=np.int32)}
    batch |= {name: np.arange(4, dtype=np.int32) for name in ("row", "id")}

    def of_torch(variables):
        export_torch(tmp_path / "w.safetensors", variables)
        return load_file(tmp_path / "w.safetensors")

    teacher, student = run.start.variables(1), run.start.variables(2)
    spec = {
        "network": "resnet18", "classes": 4, "head_width": 16, "crop": 64, "pad": 0,
        "flip": False, "normalize": "half", "dtype": "float32", "alpha": 0.5, "momentum": 0.9,
        "weight_decay": 5e-4, "learning_rate": 0.001, "head_learning_rate": 0.01,
    }  # fmt: skip
    other = torch_kt.Trainer(spec, [])
    other.network.load_state_dict(of_torch(teacher), strict=False)
    trainer = torch_kt.Trainer(spec, [other.frozen()])
    missing = trainer.network.load_state_dict(of_torch(student), strict=False)
    assert not missing.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)

    state, on_device = run.state(2, [teacher]), shard_batch(run.mesh, batch)
    for _ in range(2):
        state, metrics = run.plan(2).train_step(state, on_device, None)
        expected = trainer.step(
            torch.from_numpy(images).to(trainer.device), torch.arange(4, device=trainer.device)
        )
        assert metrics["orthogonal"] > 0
        np.testing.assert_allclose(metrics["loss"], expected.item(), rtol=1e-4)
    theirs = trainer.network.state_dict()
    for name, ours in of_torch(state.variables).items():
        np.testing.assert_allclose(ours, theirs[name].cpu(), rtol=1e-3, atol=1e-4, err_msg=name)


class FakeWorker:
    """Answers in 1 s for one network, in `seconds` for others, in half of that in one program."""

    def __init__(self, seconds):
        self.seconds, self.built = seconds, {}

    def ask(self, method, name, *rest, **options):
        if method == "build":
            chosen = options["experiment"]
            frozen, at_once = chosen["network"]["frozen"], chosen["members_at_once"]
            self.built[rest[0]] = chosen["members"], frozen, at_once
            return "float32"
        members, frozen, at_once = self.built[name]
        bytes_of = {"": members, "stage4": 1 + 0.5 * members}[frozen]
        seconds = 1.0 if members == 1 else self.seconds[frozen] / (2 if at_once == members else 1)
        return {"seconds": seconds, "flop": 2.0 * seconds, "bytes": bytes_of, "auto": frozen}


def test_an_ensemble_is_compared_with_one_network():
    spec = ensemble.Ensemble(network="resnet50", members=(5,), repetitions=2)
    found = ensemble.rows(spec, {"jax": FakeWorker({"": 5.0, "stage4": 1.5})})
    assert [(row["row"], row["time"]) for row in found] == [
        ("one network", 1.0), ("5 whole networks", 5.0), ("5 behind stage4", 1.5)
    ]  # fmt: skip
    _, lines = ensemble.table_of(found)
    half = "0.500 [0.500, 0.500]"
    assert lines[0][-2:] == ["-", "-"] and [line[2:] for line in lines[1:]] == [
        ["5.000 [5.000, 5.000]", "5.00", "5.00", half, ""],
        ["1.500 [1.500, 1.500]", "1.50", "3.50", half, "stage4"],
    ]


def small(**changes):
    """A tiny experiment as rows of benchmarks are built from."""
    return config.to_dict(tiny(batch_size=4, **changes))


@pytest.mark.exhaustive
def test_the_step_the_loop_and_the_ensemble_can_be_timed():
    assert step.Ours(small()).run(steps=2)["seconds"] > 0
    for resident in (False, True):
        assert input.Ours(small(members=1), resident=resident).run(settle=1)["seconds"] > 0
    found = {}
    for frozen in ("", "stage4"):
        network = Network(name="resnet_micro", head="linear", frozen=frozen)
        ours = ensemble.Ours(small(network=network, transfer=Transfer(name="none")))
        found[frozen] = ours.run(steps=2)
    assert all(value["seconds"] > 0 for value in found.values())
    assert found[""]["auto"] == found["stage4"]["auto"] == "one by one"
    for counted in ("flop", "bytes"):
        assert found[""][counted] / 2 < found["stage4"][counted] < found[""][counted]


@pytest.mark.parametrize("row", [predict.BARE, predict.DECODING, "predict", "one image"])
def test_every_way_to_answer_can_be_timed(row):
    ours = predict.Ours(small(members=1), row=row, pixels=40, files=3)
    assert ours.run(steps=2)["seconds"] > 0
    written = Path(ours._folder.name) / "answers.csv"
    assert written.exists() == (row == "predict")
    if written.exists():
        assert len(written.read_text().splitlines()) == 1 + 2 * 4


def test_python_is_timed_in_a_step():
    seconds = python.Ours(config.to_dict(tiny(members=1))).run(steps=10)
    assert seconds["by the clock"] > seconds["main thread"] > 0
    assert seconds["loader's threads"] > 0
