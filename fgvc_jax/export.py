"""python -m fgvc_jax.export: hand trained members on, as ONNX, StableHLO or a hub's folder."""

from fgvc_jax.commands import start

if __name__ == "__main__":
    start.begin("export")
