"""python -m fgvc_jax.explain: draw what members look at, and why A rather than B."""

from fgvc_jax.commands import start

if __name__ == "__main__":
    start.begin("explain")
