"""python -m fgvc_jax.train: train the members one after the other and judge them."""

from fgvc_jax.commands import start

if __name__ == "__main__":
    start.begin("train")
else:  # what Python code imports from here
    from fgvc_jax.training.members import train as train
