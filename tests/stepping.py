"""What tests of steps share: a member's training, step by step, without files."""

from fgvc_jax.utils import devices


def trained(run, frozen=(), *, steps, state=None, start=0):
    """(state, losses of each step) of member 2 of a run under the orthogonal loss."""
    state = run.state(2, frozen) if state is None else state
    batches, metrics = run.train_batches(2, start), []
    for _ in range(steps):
        batch = run.cache.complete(devices.shard_batch(run.mesh, next(batches)))
        state, logged = run.plan(2).train_step(state, batch, None)
        metrics.append({name: float(logged[name]) for name in ("loss", "orthogonal")})
    return state, metrics
