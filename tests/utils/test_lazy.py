import subprocess
import sys

import pytest
from conftest import ROOT

from fgvc_jax.utils.lazy import lazily


def test_a_module_is_imported_when_something_of_it_is_asked_for():
    code = (
        "import sys; from fgvc_jax.utils.lazy import lazily; module = lazily('colorsys');"
        "assert 'colorsys' not in sys.modules; assert module.rgb_to_hsv(0, 0, 0) == (0, 0, 0);"
        "assert 'colorsys' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_what_it_has_is_what_the_module_has():
    import json

    module = lazily("json")
    assert module.loads is json.loads and module.loads is json.loads
    with pytest.raises(AttributeError):
        module.nothing_like_it  # noqa: B018


def test_what_an_experiment_is_needs_no_jax():
    code = (
        "import sys; from fgvc_jax import config; config.Experiment();"
        "import fgvc_jax.commands.asked;"
        "assert not {'jax', 'flax', 'optax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
