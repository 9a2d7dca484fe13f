"""What tests of pages share: a page of each kind."""

import numpy as np
from finished_runs import run_of
from PIL import Image
from report_numbers import example

from fgvc_jax.data.soundness import Finding, ImageFacts
from fgvc_jax.figures import explanation, page
from fgvc_jax.figures.demo import demo_page
from fgvc_jax.figures.fitted import WORST, in_frame, run_page
from fgvc_jax.figures.inspection import inspection_page
from fgvc_jax.figures.report import report_page
from fgvc_jax.figures.site import pages as site_pages


class Pictures:
    """Stands for all pictures: one, or none."""

    def show(self, index, alternative, side=page.THUMBNAIL):
        return page.image(Image.new("RGB", (4, 4)), alternative, side)

    def spotlight(self, index, member, alternative):
        return page.no_image(alternative)


def pages(text):
    """A page of every kind, each with everything that it can have, whose texts are this one."""
    group = [ImageFacts("train", i, text, 0, remarks=(text,)) for i in range(9)]
    labels = list(range(WORST + 2))
    run = run_of(labels, [*labels[1:], 0], [text] * len(labels), text)
    return {
        "report": report_page(example(text), Pictures(), Pictures()),
        "inspection": inspection_page(
            text,
            classes=[text, text],
            counts={part: np.array([2, 1]) for part in ("train", "validation", "test")},
            findings=[Finding("look", text, text, groups=[group] * 25, lines=[text] * 41)],
            examples={0: group[0]},
            show=lambda _, alternative, side: page.no_image(alternative),
            place=lambda picture: picture.name,
            hint=text,
        ),
        "fitted": run_page(run)[0],
        "framed": in_frame(run),
        "explained": explanation.gallery(
            [
                {"name": "1.png", "class": text, "probability": 0.5, "path": text, "small": small}
                for small in ("data:image/jpeg;base64,", None)
            ]
        ),
        "demo": demo_page(text, 2, members=2, most_bytes=2**20),
        "site": site_pages(
            source=text,
            classes=2,
            members=2,
            accuracy={"value": 0.5, "low": 0.4, "high": 0.6, "images": 9},
            calibrated=True,
            boxed=True,
            novel=True,
            megabytes=29,
        )["index.html"],
    }
