"""python -m fgvc_jax.evaluate: judge the trained members of a workdir again."""

from fgvc_jax.commands import start

if __name__ == "__main__":
    start.begin("evaluate")
