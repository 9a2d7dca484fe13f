"""python -m fgvc_jax.report: one page on what a run learned and where it is wrong."""

from fgvc_jax.commands import start

if __name__ == "__main__":
    start.begin("report")
