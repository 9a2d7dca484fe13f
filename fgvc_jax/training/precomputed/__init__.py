"""Outputs of frozen networks, stored per view: a trunk's features, a network's embeddings, a
teacher's answers and the attention of the members before."""

from fgvc_jax.training.precomputed.attention import SummedAttention
from fgvc_jax.training.precomputed.cache import OutputCache
from fgvc_jax.training.precomputed.embeddings import Embeddings
from fgvc_jax.training.precomputed.requests import shared_folder
from fgvc_jax.training.precomputed.teacher import Teacher, check_apart, open_teacher
from fgvc_jax.training.precomputed.trunk import Trunk

__all__ = [
    "SummedAttention",
    "Embeddings",
    "OutputCache",
    "Teacher",
    "Trunk",
    "check_apart",
    "open_teacher",
    "shared_folder",
]
