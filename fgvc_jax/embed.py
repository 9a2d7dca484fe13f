"""python -m fgvc_jax.embed: write photographs as vectors, to search, cluster and reuse."""

from fgvc_jax.commands import start

if __name__ == "__main__":
    start.begin("embed")
