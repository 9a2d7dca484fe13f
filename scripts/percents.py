"""Shares over seeds, as scripts print them."""

from collections.abc import Sequence

from fgvc_jax.evaluation import statistics


def told(values: Sequence[float], *, least: float = 0.0, digits: int = 1) -> str:
    """The mean in percent, with Student's 95 % interval where there is one, which ends at 1 and at
    the least value that there can be: 0 of a share, -1 of a difference of two."""
    found = statistics.describe(values, ends=(least, 1.0))
    mean, *ends = (
        f"{100 * value:.{digits}f}" for value in (found["mean"], *(found["interval"] or ()))
    )
    return f"{mean} ({' to '.join(ends)})" if ends else mean
