"""Studies: variants of one experiment with several seeds each, compared pair by pair.

A study file has `get_study(base) -> Study`, where `base` has a default. `scripts/study.py` trains
what is missing and prints the table; other scripts measure more of the same runs. Every run is an
ordinary workdir, FOLDER/ROW/SEED, that `fgvc_jax.train` and `fgvc_jax.evaluate` understand as well.
"""

from fgvc_jax.study.definition import Study as Study
