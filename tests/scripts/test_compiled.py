"""What the benchmark of compiled programs counts, and ours as accelerators' compilers see them."""

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, first_quick
from jax.sharding import AxisType, Mesh

sys.path.insert(0, str(ROOT / "scripts"))
from benchmarks import compiled, textbook, topologies  # noqa: E402

GPU_PROGRAM = """HloModule step

%fused (p: f32[8,4]) -> f32[8] {
  %p = f32[8,4]{1,0} parameter(0)
  ROOT %r = f32[8]{0} custom-call(%p), custom_call_target="inner"
}

ENTRY %main (a: f32[8,4], b: bf16[3]) -> (f32[8]) {
  %a = f32[8,4]{1,0} parameter(0), metadata={op_name="a(x, %y)"}
  %b = bf16[3]{0} parameter(1)
  %k = (f32[8]{0}, bf16[3]{0}) fusion(%a, /*index=1*/%b), kind=kLoop, calls=%fused
  %g = f32[8]{0} get-tuple-element(%k), index=0
  %start = f32[8]{0} all-reduce-start(%g), channel_id=1, to_apply=%sum
  %done = f32[8]{0} all-reduce-done(%start)
  ROOT %t = (f32[8]{0}) tuple(%done)
}
"""


def test_bytes_of_a_gpu_program_are_those_of_its_entry():
    fusion, reduction = 128 + 6 + (32 + 6), 32 + 32
    assert topologies.top_level(GPU_PROGRAM) == (fusion + reduction, 2)


def test_an_asynchronous_collective_counts_once():
    assert topologies.collectives(GPU_PROGRAM) == ({"all-reduce": 1}, 32)


def test_a_collective_that_fusions_share_counts_once():
    parts = [
        f"  %g.{n} = f32[4,8]{{1,0}} all-gather(%p.{n}), channel_id=7, dimensions={{0}}"
        for n in range(4)
    ]
    other = "  %r = f32[2]{0} all-reduce(%q), channel_id=8, to_apply=%s"
    assert topologies.collectives("\n".join([*parts, other])) == (
        {"all-gather": 1, "all-reduce": 1},
        4 * 8 * 4 + 2 * 4,
    )


def test_bytes_of_collectives_are_those_of_their_results():
    text = """
  %a = (f32[64]{0:T(128)}, /*index=1*/bf16[3,5]{1,0:T(8,128)(2,1)S(1)}) all-reduce(%g, %h), to_apply=%s
  %b = (f32[2]{0}, f32[8]{0}) all-gather-start(%p), dimensions={0}
  %c = f32[8]{0} all-gather-done(%b)
  %f = f32[99]{0} fusion(%all-reduce.1), kind=kLoop, calls=%all-gather
"""  # noqa: E501
    found = {"all-reduce": 1, "all-gather": 1}, (64 * 4 + 15 * 2) + 32
    assert topologies.collectives(text) == found


def test_devices_exchange_four_bytes_for_each_parameter():
    """The gradient of a linear layer, compiled for four devices in a process that has them."""
    lines = [
        "import jax, jax.numpy as jnp",
        "from benchmarks import topologies",
        "mesh = jax.make_mesh((4,), ('data',), (jax.sharding.AxisType.Auto,))",
        "place = lambda *axes: jax.NamedSharding(mesh, jax.P(*axes))",
        "loss = lambda w, x: jnp.square(x @ w).mean()",
        "step = jax.jit(jax.grad(loss), in_shardings=(place(), place('data')))",
        "shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(6, 5), (8, 6)]]",
        "counted = topologies.counted(step.lower(*shapes))",
        "print(counted['collectives'], counted['collective_bytes'])",
    ]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    out = subprocess.check_output(
        [sys.executable, "-c", "\n".join(lines)], text=True, cwd=ROOT / "scripts", env=environment
    )
    assert out == f"{{'all-reduce': 1}} {4 * 6 * 5}\n"


def test_sizes_of_shapes():
    assert topologies.size("(f32[2,3]{1,0}, pred[], s8[5]{0}, c64[2]{0})") == 24 + 1 + 5 + 16


@pytest.mark.parametrize(
    "row", first_quick(["KT, 1 online teacher", "evaluation", "cross entropy", "CSDNet"], 2)
)
def test_every_row_is_the_program_of_its_name(row):
    """Traced for a mesh of this machine; nothing is compiled."""
    devices = Mesh(np.array(jax.devices()[:1]), ("data",), axis_types=(AxisType.Auto,))
    spec = compiled.Compiled(network="resnet_micro", crop=32, images_per_device=4)
    step, arguments = compiled.program(row, spec, devices)
    result = step.eval_shape(*arguments)
    if row == "evaluation":
        assert result["log_probabilities"].shape[0] == 4
    else:
        state, metrics = result
        assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, arguments[0])
        assert ("orthogonal" in metrics) == row.startswith("KT")
        assert bool(jax.tree.leaves(state.teachers.variables)) == ("online" in row)


MICRO = compiled.Compiled(network="resnet_micro", crop=32, images_per_device=2)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_arithmetic_of_online_teachers_counts_one_by_one():
    rows = "KT, precomputed maps", "KT, 1 online teacher", "KT, 4 online teachers", compiled.PASS
    none, one, four, alone = (compiled.flop(row, MICRO) for row in rows)
    assert one - none == pytest.approx(alone, rel=0.05)  # and the mean
    assert four - one == pytest.approx(3 * alone)


@pytest.mark.parametrize(("gpu", "counted"), [(True, (4100, 45)), (False, (3100, None))])
def test_bytes_of_online_teachers_count_one_by_one(gpu, counted, monkeypatch):
    """A step of 100 bytes and 5 kernels, as if every program were that, and a pass of 1000 and 10:
    on a GPU the step has none of the four passes, else one."""
    several = "KT, 4 online teachers"

    def count(lowered):
        once = lowered.pop()
        return {"bytes": 1000 if once else 100, "kernels": (10 if once else 5) if gpu else None}

    class Program:
        def __init__(self, row):
            self.row = row

        def lower(self):
            return [self.row == compiled.PASS]

    monkeypatch.setattr(topologies, "mesh", lambda topology: None)
    monkeypatch.setattr(topologies, "counted", count)
    monkeypatch.setattr(compiled, "program", lambda row, spec, devices: (Program(row), ()))
    monkeypatch.setattr(compiled, "flop", lambda row, spec: 1.0)
    (row,) = compiled.measure(replace(MICRO, rows=(several,)))
    assert (row["bytes"], row["kernels"]) == counted


@pytest.mark.exhaustive
@pytest.mark.slow
def test_textbook_networks_have_as_many_parameters_as_ours():
    from fgvc_jax import networks
    from fgvc_jax.networks.heads import LinearHead

    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    for name, theirs in textbook.NETWORKS.items():
        head = LinearHead(classes=5, pool=networks.pooling(name))
        ours = networks.create(
            name, heads={"logits": head}, dtype=jnp.bfloat16, batch_norm_groups=1
        )
        counts = [
            sum(
                leaf.size
                for leaf in jax.tree.leaves(
                    jax.eval_shape(lambda x, n=n: n.init(jax.random.key(0), x, False), image)
                )
            )
            for n in (ours, theirs(5))
        ]
        assert counts[0] == counts[1], name


def for_accelerator(package, topology, network, *, crop, images, row="cross entropy"):
    """The text of our step of a micro network, compiled for devices that are not there."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    topologies.use_cpu(network)
    spec = compiled.Compiled((topology,), network, crop=crop, images_per_device=images)
    step, arguments = compiled.program(row, spec, topologies.mesh(topology))
    return step.lower(*arguments).compile().as_text()


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v5e:2x2", "v5e:16x16"])
def test_no_collective_waits_for_another_of_the_same_norm_on_tpus(topology):
    """The batch of the 256 devices is more images than the source of the benchmark has."""
    text = for_accelerator("libtpu", topology, "resnet_micro", crop=32, images=4)
    chain = 1 + 4 * 2  # norms one behind another; those of shortcuts go along
    everything_else = 1  # all gradients together
    numbers, _ = topologies.collectives(text)
    assert numbers["all-reduce"] <= 2 * chain + everything_else


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "topology", "kernel"),
    [("libtpu", "v5e:2x2", "tpu_custom_call"), ("jax_cuda13_plugin", "h100", "__cudnn$fmha")],
)
def test_transformers_do_not_write_the_matrix_of_attention(package, topology, kernel):
    """72 px are 82 tokens: no array of 82 x 82, or as many as they are padded to."""
    text = for_accelerator(package, topology, "vit_micro", crop=72, images=4)
    assert kernel in text
    assert not re.findall(r"\[(?:\d+,)*(82,82|88,88)\]", text)


@pytest.mark.slow
def test_a_gpu_judges_without_norms_of_their_own():
    """Norm, shortcut and ReLU are done with the convolutions before them."""
    text = for_accelerator(
        "jax_cuda13_plugin", "h100", "resnet_micro", crop=32, images=4, row="evaluation"
    )
    assert "__cudnn$convForward" not in text
    assert "__cudnn$convBiasActivationForward" in text
    assert '"side_input_scale":1' in text
