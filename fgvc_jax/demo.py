"""python -m fgvc_jax.demo: a page on this machine that answers for photographs dropped on it."""

from fgvc_jax.commands import start

if __name__ == "__main__":
    start.begin("demo")
