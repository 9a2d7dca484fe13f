"""What tests of reports share: a run with chosen names, and its page."""

import numpy as np
from PIL import Image

from fgvc_jax.data.sources import open_source

NAMES = ("b 'quoted', comma", 'c <script>alert("x")', "d\u202eright", "e & plain")


def written(root, counts):
    """A folder of drawn birds under difficult names."""
    birds = open_source("sketchbirds")
    for part, count in counts.items():
        for label, name in enumerate(NAMES):
            folder = root / part / name
            folder.mkdir(parents=True)
            drawn = getattr(birds, part)
            for i in np.flatnonzero(drawn.labels == label)[:count]:
                Image.fromarray(drawn[int(i)]["image"]).save(folder / f"<b>{i}.png")
    return root
