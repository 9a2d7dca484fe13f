"""python -m fgvc_jax.predict: name the classes of new photographs."""

from fgvc_jax.commands import start

if __name__ == "__main__":
    start.begin("predict")
