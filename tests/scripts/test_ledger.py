"""The ledger: what a line says, that a run has one, and that merging is `cat`."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from conftest import tiny

from fgvc_jax import ensemble
from fgvc_jax.config import Data, Network
from fgvc_jax.objectives.kd import KD
from fgvc_jax.study import bits, ledger
from fgvc_jax.study.ledger import Correctness, Ledger
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions, storage
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.predictions import Part
from fgvc_jax.workdir.record import Record

IMAGES = 3033
DIGESTS = {"data": "d", "weights": "w"}


def right(members=2, images=IMAGES, seed=0):
    """Bits of members that agree as much as trained ones do."""
    draw = np.random.default_rng(seed)
    scores = draw.normal(0.8, 1.6, images) + draw.normal(0, 0.7, (members, images))
    fused = np.cumsum(scores, axis=0)
    return Correctness([f"{i:04d}.jpg" for i in range(images)], scores > 0, fused > 0)


def results(found, **more):
    """results.json that fits."""
    count = len(found.members)
    return {
        "source": "cub:../shared/data/cub200_2010",
        "classes": 200,
        "class_names": [f"{k:03d}.A_bird_of_some_name" for k in range(200)],
        "images": {"train": 3000, "validation": 0, "test": len(found.names)},
        "members": [
            {"final": float(bits.mean()), "selected": None, "best_on_test": 0.7123456789}
            for bits in found.members
        ],
        "ensemble": [float(bits.mean()) for bits in found.ensembles],
        "attention_overlap": np.random.default_rng(0).random((count, count)).tolist(),
        "digests": {name: 64 * value for name, value in DIGESTS.items()}
        | {name: [64 * "e"] * count for name in ("training", "members")},
        "metrics": {
            kind: [{name: {"value": 0.9876543210987 + n, "low": 0.0, "high": 2.0}
                    for name in ("nll", *ledger.MORE)} for n in range(count)]
            for kind in ("members", "ensemble")
        },
        "published_protocol": {
            "selected_by": "test accuracy",
            **{name: [0.7123456789] * count for name in ("members", "ensemble")},
        },
        "environment": {
            **{package: "0.10.2" for package in ("jax", "jaxlib", "flax", "optax", "grain")},
            "devices": ["cpu: cpu", "cpu: cpu"], "dtype": "float32", "commit": 40 * "c",
        },
        "seconds": {"members": [1234.5678] * count, "judging": 12.3, "this_process": 2469.9},
        **more,
    }  # fmt: skip


def written(path, row="kt", experiment=None, found=None, judge=True, study="effect", **more):
    """Enter one finished run; the lines of the file."""
    found = found or right()
    base = tiny()
    kept = Ledger(
        path, study=study, base=base, rows=["independent", "kt"],
        judge=lambda _workdir: found if judge else None,
    )  # fmt: skip
    kept.finished(row, experiment or base, results(found, **more))
    return path.read_text().splitlines()


# -- a line --------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [2, 5])
def test_a_line_has_at_most_10_kB(tmp_path, members):
    run = tiny(members=members)
    (text,) = written(tmp_path / "a.jsonl", experiment=run, found=right(members))
    assert len(text) <= 10_000


def test_a_line_that_would_be_longer_has_no_bits_and_is_entered_once(tmp_path):
    for _ in range(2):
        run = tiny(members=10)
        (text,) = written(tmp_path / "a.jsonl", experiment=run, found=right(10, images=8041))
        assert len(text) <= 10_000 and json.loads(text)["right"] is None
    assert not list(tmp_path.glob("names-*"))


def test_a_line_says_what_a_reader_needs(tmp_path):
    experiment = tiny(
        workdir="/home/me/runs/x", seed=3,
        data=Data(source="cub:../shared/data/cub200_2010/"),
        network=Network(weights="/home/me/resnet50.safetensors"),
    )  # fmt: skip
    (text,) = written(tmp_path / "a.jsonl", experiment=experiment)
    line = json.loads(text)
    assert "/home" not in text and "shared" not in text and "class_names" not in text
    assert line["status"] == "finished" and line["ended"].endswith("+00:00")
    assert line["config"]["data"]["source"] == "cub:cub200_2010"
    assert line["config"]["network"]["weights"] == "resnet50.safetensors"
    assert line["config"]["seed"] == 3 and "workdir" not in line["config"]
    (table,) = line["tables"]
    assert (table["study"], table["row"], table["position"]) == ("effect", "kt", 1)
    assert line["results"]["ensemble"] == results(right())["ensemble"]
    assert line["digests"]["data"] == 64 * "d" and line["environment"]["commit"] == 40 * "c"
    assert line["seconds"]["judging"] == 12.3
    assert line["nll"]["ensemble"] == [0.9876543210987, 1.9876543210987]
    names = bits.load_names(tmp_path, line["right"]["names"])
    assert names == right().names


def test_paths_are_reduced_and_names_are_not():
    def reduced(source, weights):
        portable = ledger.portable(tiny(data=Data(source=source), network=Network(weights=weights)))
        return portable["data"]["source"], portable["network"]["weights"]

    assert reduced("sketchbirds", "") == ("sketchbirds", "")
    assert reduced("tfds:stanford_dogs/1.0", "hf:timm/resnet50.tv_in1k") == (
        "tfds:stanford_dogs/1.0",
        "hf:timm/resnet50.tv_in1k",
    )
    assert reduced("folder:a b/c", "gs://bucket/x.safetensors") == ("folder:c", "gs:x.safetensors")


def test_students_of_two_rows_are_two_runs(tmp_path):
    """Both learn from a workdir whose last part is the seed."""

    def no_bits(_):
        return None

    def student(row):
        return tiny(members=1, objective="kd", kd=KD(teacher=f"/data/study/{row}/0"))

    one, other = student("independent"), student("kt")
    assert ledger.portable(one)["kd"]["teacher"] == "independent/0"
    assert ledger.digest_of(one) != ledger.digest_of(other)
    kept = Ledger(tmp_path / "a.jsonl", study="s", base=tiny(), rows=["a", "b"], judge=no_bits)
    kept.finished("a", one, results(right(members=1)))
    assert kept.kept("a", one) and not kept.kept("b", other)


def test_bits_of_another_run_are_refused(tmp_path):
    found = right(seed=0)
    other = results(right(seed=1, images=500))
    kept = Ledger(
        tmp_path / "a.jsonl", study="s", base=tiny(), rows=["kt"], judge=lambda _workdir: found
    )
    with pytest.raises(UserError, match="kept predictions are not those of results.json"):
        kept.finished("kt", tiny(), other)
    assert not (tmp_path / "a.jsonl").exists()


def test_changed_names_are_told(tmp_path):
    written(tmp_path / "a.jsonl")
    (names,) = tmp_path.glob("names-*.txt")
    names.write_text(names.read_text().replace("0001.jpg", "1000.jpg"))
    with pytest.raises(UserError, match="is missing or was changed"):
        bits.load_names(tmp_path, names.stem.removeprefix("names-"))


def test_blank_lines_are_no_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    (text,) = written(path)
    path.write_text(f"\n{text}\n\n  \n")
    (line,) = ledger.read(path)
    assert line == json.loads(text)


def test_an_editors_mark_and_line_ends_spoil_no_line(tmp_path):
    """The first line was said to be none, and to be removed."""
    path = tmp_path / "a.jsonl"
    (text,) = written(path)
    path.write_bytes(f"\ufeff{text}\r\n".encode())
    (line,) = ledger.read(path)
    assert line == json.loads(text)


def test_what_another_process_of_the_study_entered_is_not_entered_again(tmp_path):
    found, path = right(), tmp_path / "a.jsonl"
    one, other = (
        Ledger(path, study="s", base=tiny(), rows=["kt"], judge=lambda _workdir: found)
        for _ in range(2)
    )
    for kept in (one, other, one):
        kept.finished("kt", tiny(), results(found))
    assert len(path.read_text().splitlines()) == 1


# -- many lines ----------------------------------------------------------------------------------


def test_a_run_has_one_line(tmp_path):
    path = tmp_path / "a.jsonl"
    written(path)
    assert len(written(path)) == 1
    assert len(written(path, experiment=tiny(seed=1))) == 2
    changed = {name: 64 * value for name, value in (DIGESTS | {"data": "e"}).items()}
    assert len(written(path, digests=changed)) == 3
    assert len(ledger.read(path)) == 3


def test_free_fields_and_folders_make_no_other_run(tmp_path):
    path = tmp_path / "a.jsonl"
    written(path)
    assert len(written(path, experiment=tiny("elsewhere", log_every=7))) == 1


def test_bits_are_added_to_a_line_that_has_none(tmp_path):
    path = tmp_path / "a.jsonl"
    assert json.loads(written(path, judge=False)[0])["right"] is None
    assert len(written(path)) == 2
    (line,) = ledger.read(path)
    assert line["right"]["images"] == IMAGES
    assert len(written(path, judge=False)) == 2  # nothing is taken away


def test_the_newer_line_counts_and_belongs_where_either_did(tmp_path):
    one, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    written(one, study="effect", row="independent")
    written(other, study="views", row="kt")
    newer, older = (json.loads(path.read_text()) for path in (one, other))
    older["ended"], newer["ended"] = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"
    older["seconds"], newer["seconds"] = 1, 2
    texts = [json.dumps(entry) + "\n" for entry in (newer, older)]
    for order in (texts, texts[::-1]):
        (tmp_path / "cat.jsonl").write_text("".join(order))
        (line,) = ledger.read(tmp_path / "cat.jsonl")
        assert line["seconds"] == 2
        assert {(t["study"], t["row"]) for t in line["tables"]} == {
            ("effect", "independent"),
            ("views", "kt"),
        }
    assert ledger.read(one, other, one)[0]["tables"]


def test_a_run_that_finished_replaces_its_failures(tmp_path):
    path = tmp_path / "a.jsonl"
    kept = Ledger(path, study="effect", base=tiny(), rows=["kt"])
    for reason in ("loss is not finite at step 3", "'/home/me/x/y.jpg' cannot be decoded"):
        kept.unfinished("kt", tiny(), status="failed", reason=reason)
    (line,) = ledger.read(path)
    assert (line["status"], line["reason"]) == ("failed", "'y.jpg' cannot be decoded")
    assert line["results"] == {} and line["right"] is None
    kept.unfinished("kt", tiny(seed=1), status="abandoned", reason="no time")
    kept.finished("kt", tiny(), results(right()))
    assert [entry["status"] for entry in ledger.read(path)] == ["abandoned", "finished"]
    later = json.loads(path.read_text().splitlines()[0]) | {"ended": "2999-01-01T00:00:00+00:00"}
    ledger.append(path, later)
    told = [(entry["status"], entry["ended"][:4]) for entry in ledger.read(path)]
    assert [status for status, _ in told] == ["abandoned", "finished", "failed"]
    assert told[-1][1] == "2999"


def test_a_failure_on_other_data_of_the_same_name_is_told(tmp_path):
    """Two folders whose last part is the same: what finished in one replaces no failure in the
    other."""
    path = tmp_path / "a.jsonl"
    kept = Ledger(path, study="effect", base=tiny(), rows=["kt"])
    for data in (64 * "d", 64 * "e"):
        known = {"data": data, "weights": 64 * "w", "trunk": None}
        kept.unfinished("kt", tiny(), status="failed", reason=data[0], known=known)
    assert [entry["reason"] for entry in ledger.read(path)] == ["d", "e"]
    kept.finished("kt", tiny(), results(right()))
    assert [entry["reason"] for entry in ledger.read(path)] == ["e", ""]


def changed(line, **more):
    return json.dumps(line | more) + "\n"


def test_the_newer_of_two_instants_counts_whatever_the_zone(tmp_path):
    """As text 09:00+09:00 comes after 03:00+00:00, though it is three hours earlier."""
    path = tmp_path / "a.jsonl"
    line = json.loads(written(path)[0])
    older, newer = "2026-01-01T09:00:00+09:00", "2026-01-01T03:00:00+00:00"
    path.write_text("".join(changed(line, ended=end, seconds=end) for end in (newer, older)))
    (found,) = ledger.read(path)
    assert found["seconds"] == newer
    path.write_text(changed(line, ended="2026-01-01T04:00:00") + path.read_text())
    assert ledger.read(path)[0]["ended"] == "2026-01-01T04:00:00"  # UTC, as all is


def test_a_clock_that_was_set_back_makes_no_older_line_count(tmp_path, monkeypatch, caplog):
    """A failure was hidden by what finished before it, or stood beside what finished after it."""
    path = tmp_path / "a.jsonl"
    kept = Ledger(path, study="effect", base=tiny(), rows=["kt"])
    clock = "2026-05-01T12:00:00+00:00"
    monkeypatch.setattr(ledger, "now", lambda: clock)
    kept.unfinished("kt", tiny(), status="failed", reason="no memory")
    assert not caplog.messages
    clock = "2026-05-01T11:00:00+00:00"
    kept.finished("kt", tiny(), results(right()))
    assert [entry["status"] for entry in ledger.read(path)] == ["finished"]
    assert "the clock says 2026-05-01T11:00:00+00:00" in caplog.text
    kept.unfinished("kt", tiny(), status="failed", reason="no memory")
    assert [entry["status"] for entry in ledger.read(path)] == ["finished", "failed"]
    ends = [json.loads(text)["ended"] for text in path.read_text().splitlines()]
    assert ends == [f"2026-05-01T12:00:0{second}+00:00" for second in range(3)]


def test_a_line_that_contradicts_itself_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    line = json.loads(written(path)[0])
    better = json.loads(json.dumps(line["results"]))
    better["ensemble"][-1] += 0.05
    above = json.loads(json.dumps(line["results"]))
    above["ensemble"][-1] = 1.05
    fewer = line["results"] | {"ensemble": line["results"]["ensemble"][:1]}
    other = line["results"] | {"images": {"test": IMAGES + 1}}
    for results_, right_, said in (
        (better, line["right"], r"accuracies \[.*there"),
        (above, None, "1.05"),
        (fewer, None, "2 members, accuracies of 2"),
        (other, line["right"], f"bits of {IMAGES} images"),
    ):
        path.write_text("\n" + changed(line, results=results_, right=right_))
        with pytest.raises(UserError, match=f"line 2, contradicts itself .*{said}"):
            ledger.read(path)
    path.write_text(changed(line, right=line["right"] | {"bits": "AAAA"}))
    with pytest.raises(UserError, match="line 1, is no line of a ledger"):
        ledger.read(path)


def test_other_results_of_the_same_digests_are_a_contradiction(tmp_path):
    """Which merging, tidying and a further look keep, and the bits of the newer line count."""
    path, found = tmp_path / "a.jsonl", [right(seed=seed) for seed in (0, 1)]
    for _ in range(2):
        for one in found:
            written(path, found=one)
    assert len(path.read_text().splitlines()) == 2
    first = json.loads(path.read_text().splitlines()[0])
    for _ in range(2):
        (line,) = ledger.read(path)
        assert bits.accuracies(line["results"])[0] == found[1].members[0].mean()
        (other,) = line["contradicted"]
        assert other == {"ended": first["ended"], "accuracies": bits.accuracies(first["results"])}
        ledger.rewrite(path)


def test_merging_keeps_the_bits_that_a_newer_line_lacks(tmp_path):
    path = tmp_path / "a.jsonl"
    line = json.loads(written(path)[0])
    newer = {"ended": "2999-01-01T00:00:00+00:00", "right": None, "nll": {}}
    path.write_text(changed(line) + changed(line, **newer))
    (found,) = ledger.read(path)
    assert found == line | {"ended": newer["ended"]}
    other = json.loads(json.dumps(line["results"]))
    other["ensemble"][-1] += 0.05
    path.write_text(changed(line) + changed(line, **newer, results=other))
    (found,) = ledger.read(path)
    assert found["right"] is None and found["contradicted"]


def test_rows_of_another_base_are_another_table(tmp_path):
    def base_of(path, base):
        Ledger(path, study="effect", base=base, rows=["kt"]).unfinished(
            "kt", tiny(), status="failed", reason=""
        )
        return json.loads(path.read_text())["tables"][0]["base"]

    one = base_of(tmp_path / "a.jsonl", tiny())
    assert one == base_of(tmp_path / "b.jsonl", tiny("elsewhere", seed=7))
    assert one != base_of(tmp_path / "c.jsonl", tiny(epochs=9))


PLACED = (
    '{"status": "failed", "digests": {"config": ""}, "config": {"seed": 0}, "tables": [%s], '
    '"ended": %s}'
)


@pytest.mark.parametrize(
    "text",
    [
        *('{"status": "fini', "3", "{}", '{"status": "finished"}'),
        PLACED % ("{}", '"2026-11-25T08:01:37+00:00"'),
        PLACED % ("", "5"),
        PLACED % ("", '"yesterday"'),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, text):
    path = tmp_path / "a.jsonl"
    written(path)
    path.write_text(path.read_text() + text)
    with pytest.raises(UserError, match="a.jsonl', line 2, is no line of a ledger"):
        ledger.read(path)


def test_every_field_of_an_experiment_is_in_the_line_or_free():
    experiment = tiny()
    kept = ledger.portable(experiment)
    free = {f.name for f in dataclasses.fields(experiment) if f.metadata.get("free")}
    assert set(kept) | free == {f.name for f in dataclasses.fields(experiment)}
    assert set(kept["data"]) >= {"source", "crop", "validation"}


@pytest.mark.parametrize("fusion", ["probabilities", "logits"])
def test_what_is_right_follows_from_what_members_answered(tmp_path, fusion):
    """The kept answers of a workdir, and nothing is inferred."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 5, 200)
    logits = draw.normal(0, 2, (3, 200, 5)) + 2 * np.eye(5)[labels]
    answers = np.asarray(jax.nn.log_softmax(logits)).astype(np.float16)
    workdir = Workdir(tmp_path)
    assert ledger.correctness(tmp_path) is None
    workdir.claim(Record(tiny(fusion=fusion), ("a",), {}, False))
    names, folder = [f"{i}.jpg" for i in range(200)], workdir.predictions / "test-x"
    part = Part(folder, "test", tuple(names), labels, np.arange(200), tuple("abcde"), "images")
    members = [digit * 64 for digit in "123"]
    with predictions.keep(part, members, [(2, 2)] * 3) as arrays:
        for (kept, _), given in zip(arrays, answers, strict=True):
            kept[...] = given
    results = {"digests": {"members": members}, "predictions": {"test": "test-x"}}
    storage.write_json(workdir.results, results)
    found = ledger.correctness(tmp_path)
    assert list(found.names) == names
    for n in (1, 2, 3):
        np.testing.assert_array_equal(found.members[n - 1], answers[n - 1].argmax(1) == labels)
        fused = np.asarray(ensemble.fuse(jax.numpy.asarray(answers[:n]), fusion))
        np.testing.assert_array_equal(found.ensembles[n - 1], fused.argmax(1) == labels)
    assert 0.5 < found.members.mean() < found.ensembles[-1].mean() < 1


def test_a_tidy_file_has_the_newest_line_of_every_run(tmp_path):
    path = tmp_path / "a.jsonl"
    written(path, judge=False)
    written(path)
    written(path, experiment=tiny(seed=1))
    newest = ledger.read(path)
    ledger.rewrite(path)
    assert len(path.read_text().splitlines()) == 2
    assert ledger.read(path) == newest


def test_a_field_that_a_later_version_adds_makes_no_other_run(monkeypatch):
    before = ledger.digest_of(tiny(epochs=3)), ledger.digest_of(tiny())
    portable = ledger.portable
    monkeypatch.setattr(ledger, "portable", lambda one: portable(one) | {"new": {"field": 0}})
    assert (ledger.digest_of(tiny(epochs=3)), ledger.digest_of(tiny())) == before
    assert before[0] != before[1]
