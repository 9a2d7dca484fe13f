"""What is gained by answering for several views of a test image (`evaluate --tta`)?

    python scripts/tta.py runs/study/one/0 runs/study/one/1 ...

The finished runs are seeds of one row of a study. Printed: the ensemble's accuracy in one view and
in those of each way, and the difference, as means with Student's 95 % intervals over the runs.
Answers are kept in the workdirs, as evaluate keeps them.
"""

import json
import subprocess
import sys

from percents import told

from fgvc_jax.utils.text import markdown_table

WAYS = {"flip": 2, "scales": 3, "five": 5}  # and how many views of an image each has


def accuracies(workdir: str, way: str) -> tuple[float, float]:
    """Of the ensemble, in one view and in those of a way."""
    command = [sys.executable, "-m", "fgvc_jax.evaluate", workdir, "--tta", way, "--json"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found["ensemble"][-1], found["tta"][way]["ensemble"][-1]


def main(workdirs: list[str]) -> None:
    if len(workdirs) < 2:
        sys.exit("python scripts/tta.py RUN RUN ...: at least two finished runs")
    rows = []
    for way, views in WAYS.items():
        pairs = [accuracies(workdir, way) for workdir in workdirs]
        if not rows:
            rows.append(["one", 1, told([plain for plain, _ in pairs], digits=2), "-"])
        gains = [seen - plain for plain, seen in pairs]
        seen = told([seen for _, seen in pairs], digits=2)
        rows.append([way, views, seen, told(gains, least=-1.0, digits=2)])
    header = "views", "an image", "accuracy (%)", "less that of one view (points)"
    print(markdown_table(header, rows))


if __name__ == "__main__":
    main(sys.argv[1:])
