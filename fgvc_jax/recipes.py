"""The published protocols, under the name by which configs import them."""

from fgvc_jax.published import (
    BENCHMARKS,
    Benchmark,
    Row,
    finetuning,
    kt,
    maskcov,
    protocol,
    transfg,
)

__all__ = ["BENCHMARKS", "Benchmark", "Row", "finetuning", "kt", "maskcov", "protocol", "transfg"]
