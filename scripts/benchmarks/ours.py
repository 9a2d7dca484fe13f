"""Our side: all that benchmarks take from `run.Run` and from training and inference."""

from collections.abc import Callable
from typing import Any

BATCH = "row", "id", "view", "label"  # what comes with the images


def describe() -> str:
    import jax

    return f"jax {jax.__version__} on {jax.device_count()} x {jax.devices()[0].device_kind}"


def make_run(chosen: dict[str, Any]) -> Any:
    from fgvc_jax import config
    from fgvc_jax.training.run import Run
    from fgvc_jax.utils import compilation

    compilation.use_compilation_cache()
    return Run(config.from_dict(chosen))


def random_batch(run: Any, **more: Any) -> dict[str, Any]:
    """A batch on the devices, of noise, as the pipeline gives it where there is no store."""
    import numpy as np

    from fgvc_jax.utils.devices import shard_batch

    spec = run.experiment
    rng, count, size = np.random.default_rng(0), spec.batch_size, spec.data.resize
    batch = {
        "row": np.arange(count, dtype=np.int32),
        "id": np.arange(count, dtype=np.int32),
        "view": np.zeros(count, np.int32),
        "label": rng.integers(len(run.splits.classes), size=count, dtype=np.int32),
        "image": rng.integers(256, size=(count, size, size, 3), dtype=np.uint8),
    }
    return shard_batch(run.mesh, batch | more)


def abstract_step(run: Any, teachers: int, devices: Any) -> tuple[Callable, tuple]:
    """The training step for a mesh that need not exist, and the shapes of its arguments.

    Args:
        run: of an experiment with `teachers` members before the last where their maps are online,
            and the batch size of one device: a pod's batch may exceed the images of the source.
        teachers: number of teachers that the state holds.
        devices: the mesh.
    """
    import jax
    import jax.numpy as jnp

    from fgvc_jax.training.state import State, stack_teachers

    run.place(devices)
    member = run.plan(1)
    plan, variables = member.architecture, member.architecture.variables
    _, outputs = plan.answer

    def initial(variables):
        return State(
            member=jnp.int32(1),
            step=jnp.int32(0),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=member.optimizer.init(variables["params"]),
            memory=plan.objective.init_memory(variables, outputs),
            teachers=stack_teachers([], teachers, variables),
        )

    batch = abstract_batch(run, devices.size)
    transfer = run.experiment.transfer
    if transfer.name == "orthogonal" and transfer.maps == "precomputed":
        maps = (*batch["label"].shape, *plan.grid)
        batch["attention"] = jax.ShapeDtypeStruct(maps, jnp.float32)
    trunk = [plan.trunk] if plan.network.adapted else []
    return member.train_step, (jax.eval_shape(initial, variables), batch, None, *trunk)


def abstract_evaluation(run: Any, devices: Any, members: int = 1) -> tuple[Callable, tuple]:
    """The same for the answers of one member at test, or of several in one program; behind a trunk
    for what that makes of the images."""
    import jax
    import jax.numpy as jnp

    from fgvc_jax.ensemble import alike
    from fgvc_jax.inference import passes

    run.place(devices)
    plan = run.plan(1).architecture
    batch = abstract_batch(run, devices.size)
    count = len(batch["label"])
    batch["mask"] = jax.ShapeDtypeStruct((count,), jnp.bool_)
    if plan.network.frozen:
        del batch["image"]
        batch["features"] = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape[1:]), leaf.dtype), plan.features
        )
    made = {"network": plan.network, "predict": plan.objective.predict, "view": plan.view}
    if members == 1:
        return passes.answer_pass(**made, mesh=devices), (plan.variables, batch, None)
    several = alike([plan.variables] * members)
    return passes.ensemble_pass(**made, mesh=devices), (several, batch, None)


def abstract_pass(run: Any, devices: Any) -> tuple[Callable, tuple]:
    """The same for the map that one online teacher makes of the images that a member is shown."""
    import jax
    import jax.numpy as jnp

    from fgvc_jax import transfer
    from fgvc_jax.utils.devices import replicated, split

    run.place(devices)
    plan, spec = run.plan(1).architecture, run.experiment

    def step(variables, images):
        features = plan.network.apply(variables, images, False, method="taps")["stage5"]
        return transfer.teacher_attention(features)

    rows, everywhere = split(devices), replicated(devices)
    shape = spec.batch_size * devices.size, spec.data.crop, spec.data.crop, 3
    images = jax.ShapeDtypeStruct(shape, jnp.dtype(spec.network.dtype))
    step = jax.jit(step, in_shardings=(everywhere, rows), out_shardings=rows)
    return step, (plan.variables, images)


def abstract_views(run: Any, devices: Any) -> tuple[Callable, tuple]:
    """The same for what training shows of a batch: the views, mixed where the experiment mixes."""
    import jax
    import jax.numpy as jnp

    from fgvc_jax.data import augment, mixing
    from fgvc_jax.utils.devices import replicated, split

    run.place(devices)
    data = run.experiment.data
    amounts = {name: data.amount(name) for name in ("mixup", "cutmix")}

    def views(number, batch):
        keys = augment.image_keys(data.view_seed, batch["view"], batch["id"])
        images = augment.training_view(data.view, keys, batch["image"])
        if data.mixes:
            mixed = mixing.draw(data.view_seed, 1, number, side=data.crop, **amounts)
            images = mixed.of_places(images)
        return augment.normalize(images, data.normalize)

    rows = split(devices)
    views = jax.jit(views, in_shardings=(replicated(devices), rows), out_shardings=rows)
    return views, (jax.ShapeDtypeStruct((), jnp.int32), abstract_batch(run, devices.size))


def abstract_batch(run: Any, devices: int) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    count, size = run.experiment.batch_size * devices, run.experiment.data.resize
    batch = {name: jax.ShapeDtypeStruct((count,), jnp.int32) for name in BATCH}
    return batch | {"image": jax.ShapeDtypeStruct((count, size, size, 3), jnp.uint8)}
