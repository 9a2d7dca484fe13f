"""Compile for accelerators that are not there, and count what the compiler made.

libtpu and the CUDA plugin hold the compilers; no device and no driver is needed.
"""

import importlib.metadata
import os
import re
from collections import Counter
from typing import Any

# XLA's GpuTargetConfigProto of an H100 SXM, as in its repository (target_config/specs).
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
COLLECTIVES = "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"
# Operations of a GPU program that move nothing by themselves.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}
WIDTHS = {"pred": 1, "token": 0, "c64": 8, "c128": 16}


def use_cpu(network: str) -> None:
    """Have JAX run on the CPU, before it is imported, and the compilers ask for no device.

    Without a GPU there is no autotuning, and the default tiles of the Triton products of linear
    layers on wide tokens do not compile.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    os.environ["TPU_ACCELERATOR_TYPE"] = "v5litepod-16"
    # libtpu locks the chips of a machine: without any, one that was killed left only the lock.
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    if network.startswith(("vit", "dino", "bioclip", "siglip", "swin", "convnext")):
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_enable_triton_gemm=false".strip()


def compilers() -> str:
    """Versions of what compiles."""
    names = "jax", "jaxlib", "libtpu", "jax-cuda13-plugin"
    installed = {dist.name: dist.version for dist in importlib.metadata.distributions()}
    found = [f"{name} {installed[name]}" for name in names if name in installed]
    return f"Compiled with {', '.join(found)}"


def mesh(topology: str) -> Any:
    """All devices of a topology along the axis `data`.

    Args:
        topology: as libtpu names them (v5e:2x2, v4:4x4x4, ...), or h100, h100:8.

    Raises:
        UserError: when the compiler is missing or does not know the topology.
    """
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import AxisType, Mesh

    from fgvc_jax.utils.errors import UserError

    gpu = topology.startswith("h100")
    try:
        if gpu:
            count = topology.partition(":")[2] or "1"
            found = topologies.get_topology_desc(
                "h100", platform="cuda", target_config=H100, topology=f"1x{count}x1"
            )
        else:
            found = topologies.get_topology_desc(topology, "tpu")
    except Exception as error:  # each compiler raises errors of its own
        package = "jax[cuda13]" if gpu else "jax[tpu]"
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"cannot compile for --topology {topology} ({reason}): "
            f"it needs pip install '{package}', and a name such as v5e:2x2, h100 or h100:8"
        ) from error
    return Mesh(np.array(found.devices).ravel(), ("data",), axis_types=(AxisType.Auto,))


def counted(lowered: Any) -> dict[str, Any]:
    """Compile a lowered program and count, per device.

    Returns:
        {"bytes": moved, "temporaries": bytes, "kernels": of a GPU or None, "collectives": {kind:
        number}, "collective_bytes": of their results}. A TPU's bytes are its compiler's estimate; a
        GPU's are the operands and results of all operations of the scheduled entry computation.
        Of a loop whose length is not in the program a TPU's compiler counts one pass, and a GPU's
        entry computation has none.
    """
    compiled = lowered.compile()
    bytes_moved, kernels = moved(compiled)
    numbers, bytes_received = collectives(compiled.as_text())
    return {
        "bytes": bytes_moved,
        "temporaries": compiled.memory_analysis().temp_size_in_bytes,
        "kernels": kernels,
        "collectives": numbers,
        "collective_bytes": bytes_received,
    }


def moved(compiled: Any) -> tuple[int, int | None]:
    """(bytes, kernels) of a compiled program, per device; no kernels where the compiler counts."""
    cost = compiled.cost_analysis() or {}
    if "bytes accessed" in cost:
        return cost["bytes accessed"], None
    return top_level(compiled.as_text())


def collectives(text: str) -> tuple[dict[str, int], int]:
    """The collectives of a compiled program: ({kind: number}, bytes of their results together).

    An asynchronous one counts once, where it is done: what starts it results in its operand too.
    One that a TPU spreads over the fusions that it runs beside has one channel in all of them.
    """
    kinds = "|".join(COLLECTIVES)
    found = re.findall(rf" = (.*?) ({kinds})(?:-done)?\((?:.*?channel_id=(\d+))?", text)
    once = {channel or f"line {n}": parts for n, (*parts, channel) in enumerate(found)}
    numbers = dict(Counter(kind for _, kind in once.values()))
    return numbers, sum(size(shape) for shape, _ in once.values())


def top_level(text: str) -> tuple[int, int]:
    """(bytes, number) of the operations in the entry computation of a compiled program."""
    entry = re.search(r"^ENTRY .*?\{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE)[1]
    line = re.compile(r"\s*(?:ROOT )?%([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)")
    shapes: dict[str, str] = {}
    total = count = 0
    for found in map(line.match, re.sub(r"/\*.*?\*/", "", entry).splitlines()):
        if not found:
            continue
        name, shape, operation, rest = found.groups()
        shapes[name] = shape
        if operation in FREE or operation.endswith("-done"):
            continue
        operands = re.findall(r"%([\w.-]+)", rest.partition("),")[0])
        total += size(shape) + sum(size(shapes[operand]) for operand in operands)
        count += 1
    return total, count


def size(shape: str) -> int:
    """Bytes of an HLO shape, of a tuple those of its parts: "(f32[2,3]{1,0}, pred[])" -> 25."""
    total = 0
    for kind, dimensions in re.findall(r"([a-z]\w*)\[([\d,]*)\]", shape):
        bits = re.search(r"\d+", kind)
        width = WIDTHS[kind] if kind in WIDTHS else int(bits[0]) // 8
        for dimension in filter(None, dimensions.split(",")):
            width *= int(dimension)
        total += width
    return total
