"""python -m fgvc_jax.inspect: look for what is wrong with a dataset before training."""

from fgvc_jax.commands import start

if __name__ == "__main__":
    start.begin("inspect")
