"""Does a change keep what it must? One version of the project begins runs, another ends them.

    python scripts/across.py OLD [NEW] [--only NAME ...] [--keep FOLDER]

OLD and NEW are git revisions (NEW: this checkout as it lies). Each experiment is trained by OLD
alone, by NEW alone, and begun by OLD, stopped in the middle by SIGTERM and ended by NEW. All three
must have the same losses and the same members bit for bit, and NEW must name the same classes with
the same probabilities from OLD's workdir. Prints a line an experiment; exit code 1 where one fails.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--config", "tiny"]
ORTHOGONAL = ["--transfer.name", "orthogonal"]
EXPERIMENTS = {
    "kt": [*TINY, *ORTHOGONAL, "--members", "2"],
    "kt_online": [*TINY, *ORTHOGONAL, "--transfer.maps", "online", "--members", "2"],
    "hsd": [*TINY, "--objective", "hsd", "--members", "1"],
    "csdnet": [*TINY, "--objective", "csdnet", "--members", "1"],
    "frozen": [*TINY, *ORTHOGONAL, "--members", "2", "--network.frozen", "stage3"],
    "kd": [*TINY, "--objective", "kd", "--members", "1"],
}
# What a member's journal tells of the machine rather than of the member.
OF_THE_MACHINE = "seconds", "images_per_second", "time"


def checkout(revision: str, folder: Path) -> Path:
    """The files of a revision."""
    folder.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", revision], check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def start(version: Path, command: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"fgvc_jax.{command}", *words],
        cwd=version, env=os.environ | {"PYTHONPATH": str(version)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(version: Path, command: str, *words: str) -> str:
    """What a command prints, once it has ended well."""
    process = start(version, command, *words)
    out, err = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command} {' '.join(words)} in {version}: {err}")
    return out


def stop_in_the_middle(version: Path, workdir: Path, *words: str) -> None:
    """Begin a run and have it save and leave once its last member has an epoch behind it."""
    process = start(version, "train", "--workdir", str(workdir), "--save-every", "1", *words)
    count = int(words[words.index("--members") + 1])
    journal = workdir / f"members/{count:02}/metrics.jsonl"
    while process.poll() is None and not (journal.exists() and journal.read_text().count("\n")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate()


def losses(workdir: Path) -> list[dict]:
    """All lines of all members' journals, the last of those of one step."""
    found = []
    for journal in sorted(workdir.glob("members/*/metrics.jsonl")):
        lines: dict = {}
        for line in map(json.loads, journal.read_text().splitlines()):
            kept = {name: value for name, value in line.items() if name not in OF_THE_MACHINE}
            key = journal.parent.name, line.get("step"), tuple(sorted(kept))
            lines[key] = kept
        found += lines.values()
    return found


def members(workdir: Path) -> list[str]:
    """Digests of the members' variables."""
    return json.loads((workdir / "results.json").read_text())["digests"]["members"]


def compare(name: str, old: Path, new: Path, folder: Path, photographs: Path) -> list[str]:
    """What is not the same, in words."""
    words = EXPERIMENTS[name]
    if name == "kd":
        words = [*words, "--kd.teacher", str(folder.parent / "kt" / "old")]
    before, after, both = (folder / each for each in ("old", "new", "both"))
    run(old, "train", "--workdir", str(before), *words)
    run(new, "train", "--workdir", str(after), *words)
    stop_in_the_middle(old, both, *words)
    if (both / "results.json").exists():
        raise RuntimeError(f"{name} ended before it could be stopped")
    run(new, "train", "--workdir", str(both), "--save-every", "1", *words)
    wrong = []
    if losses(before) != losses(after):
        wrong.append("losses differ")
    if members(before) != members(after):
        wrong.append("members differ")
    if members(before) != members(both):
        wrong.append("a run that OLD began is another one")
    asked = ["--workdir", str(before), str(photographs), "--output"]
    for version, table in ((old, folder / "old.csv"), (new, folder / "new.csv")):
        run(version, "predict", *asked, str(table))
    if (folder / "old.csv").read_bytes() != (folder / "new.csv").read_bytes():
        wrong.append("predict answers otherwise")
    return wrong


def draw(version: Path, folder: Path) -> Path:
    """Three photographs of sketchbirds."""
    folder.mkdir()
    code = (
        "from PIL import Image\n"
        "from fgvc_jax.data.sources import open_source\n"
        "test = open_source('sketchbirds').test\n"
        f"for i in range(3): Image.fromarray(test[i]['image']).save(r'{folder}/%d.png' % i)"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=version, check=True,
        env=os.environ | {"PYTHONPATH": str(version)},
    )  # fmt: skip
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", help="a git revision")
    parser.add_argument("new", nargs="?", help="a git revision; this checkout where none is given")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--keep", type=Path, help="a new folder for all that is made")
    options = parser.parse_args()
    if "kd" in options.only and "kt" not in options.only:
        parser.error("kd has the members of kt as its teachers: name both")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        old = checkout(options.old, folder / "versions" / "old")
        new = checkout(options.new, folder / "versions" / "new") if options.new else ROOT
        photographs = draw(old, folder / "photographs")
        failed = 0
        for name in options.only:
            wrong = compare(name, old, new, folder / name, photographs)
            failed += bool(wrong)
            print(f"{name}: {'; '.join(wrong) or 'the same bit for bit'}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
