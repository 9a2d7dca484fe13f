"""Fine-grained image classification in JAX: KT, HSD and CSDNet, comparable and reproducible."""

__version__ = "0.1.0"
