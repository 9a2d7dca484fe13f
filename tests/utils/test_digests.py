"""Digests decide what is the same; here is what must, and must not, change them."""

import dataclasses
import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, tiny

from fgvc_jax import config
from fgvc_jax.config import Experiment, Network, Optimizer, Transfer
from fgvc_jax.objectives import CSDNet
from fgvc_jax.objectives.kd import KD
from fgvc_jax.training.run import Run
from fgvc_jax.utils import digests
from fgvc_jax.workdir.record import Record


def test_values_are_known_by_content_not_by_order():
    assert digests.of_value({"a": 1, "b": [2]}) == digests.of_value({"b": [2], "a": 1})
    assert digests.of_value({"a": 1}) != digests.of_value({"a": 2})


def test_arrays_are_known_by_names_shapes_and_bytes():
    tree = {"a": jnp.arange(6.0), "b": {"c": np.ones(2, np.int32)}}
    same = {"b": {"c": jnp.ones(2, jnp.int32)}, "a": np.arange(6, dtype=np.float32)}
    assert digests.of_arrays(tree) == digests.of_arrays(same)
    for other in (
        {**tree, "a": jnp.arange(6.0).reshape(2, 3)},
        {**tree, "a": jnp.arange(6.0).at[0].set(1e-9)},
        {"z": tree["a"], "b": tree["b"]},
    ):
        assert digests.of_arrays(other) != digests.of_arrays(tree)


class Images:
    labels = np.array([0, 1], np.int32)
    ids = np.array([0, 1], np.int32)
    names = ("a", "b")
    size = 3

    def stat(self, index):
        return self.size, 0


def test_images_are_known_by_names_labels_classes_and_contents():
    contents = [b"1" * 32, b"2" * 32]
    known = digests.of_images(Images(), ["x", "y"], contents)
    assert known == digests.of_images(Images(), ["x", "y"], list(contents))
    assert known != digests.of_images(Images(), ["y", "x"], contents)
    assert known != digests.of_images(Images(), ["x", "y"], contents[::-1])
    other = Images()
    other.size = 4  # seen only where nothing read the contents
    assert digests.of_images(other, ["x", "y"], contents) == known
    sizes = [digests.of_images(source, ["x", "y"], None) for source in (Images(), other)]
    assert sizes[0] != sizes[1]


def _dataset(train, test, size=3):
    parts = {}
    for name, names in (("train", train), ("test", test)):
        parts[name] = part = Images()
        part.names, part.size, part.groups = names, size, None
    return digests.of_data(SimpleNamespace(classes=["x", "y"], parts=parts), {})


@pytest.mark.parametrize("read", [True, False])
def test_test_images_are_the_same_whatever_their_ids(read):
    """Which count on from the training images: with one more of these all others' move."""

    def test(first=0, name="b", content=b"2" * 32, old=False):
        part = Images()
        part.names, part.groups = ("a", name), None
        part.ids = np.arange(first, first + 2, dtype=np.int32)
        splits = SimpleNamespace(classes=["x", "y"], parts={"test": part})
        found = digests.of_data(splits, {"test": [b"1" * 32, content] if read else None})["test"]
        return {key: value for key, value in found.items() if not old or key != "pictures"}

    assert digests.differ(test(), test(first=1))  # what training is shown of them is not the same
    for old in (False, True):
        assert digests.same_images(test(), test(first=1, old=old))
        assert not digests.same_images(test(), test(name="c", old=old))
    assert digests.same_images(test(), test(content=b"3" * 32)) != read


def test_names_in_another_form_of_their_accents_are_the_same_images():
    """In whatever order, and split otherwise: both go by the name."""
    known = _dataset(("a", "\u00e9"), ("c", "d"))
    assert digests.respelt(known, _dataset(("a", "e\u0301"), ("c", "d")))
    assert digests.respelt(known, _dataset(("a", "d"), ("c", "e\u0301")))
    assert not digests.respelt(known, known)
    for other in (
        _dataset(("a", "e\u0301"), ("c", "d"), size=4),
        _dataset(("a", "e"), ("c", "d")),
        _dataset(("e\u0301", "a"), ("c", "d")),
    ):
        assert not digests.respelt(known, other)
    plain = _dataset(("a", "b"), ("c", "d"))
    assert not digests.respelt(plain, _dataset(("a", "e"), ("c", "d")))


@pytest.mark.parametrize(
    ("old", "new", "differ"),
    [
        (("n", "c"), ("n", "c"), False),
        (("n", "c"), ("m", "c"), False),  # a longer path, the same pictures
        (("n", "c"), ("n", "d"), True),
        (("n", "c"), ("n", None), False),  # streamed now: names and sizes must do
        (("n", "c"), ("m", None), True),
    ],
)
def test_contents_decide_where_both_are_known(old, new, differ):
    parts = [dict(zip(("names", "contents"), pair, strict=True)) for pair in (old, new)]
    assert digests.differ(*parts) is differ


def test_a_part_that_differs_by_its_ids_alone_is_not_told():
    def part(names, files, count):
        return {"names": names, "contents": None, "files": files, "count": count}

    old = {"train": part("a", "a", 1200), "test": part("b", "b", 6)}
    new = {"train": part("c", "c", 1205), "test": part("d", "b", 6)}
    assert digests.changed(old, new) == ["train images (1,200, now 1,205)"]
    assert digests.changed(old, old | {"test": part("d", "b", 6)}) == ["test images"]
    assert digests.changed(old, {"train": old["train"]}) == ["test images (6, now 0)"]
    bare = {name: {"names": each["names"], "contents": None} for name, each in old.items()}
    assert digests.changed(bare, new) == ["train images", "test images"]  # of an older program
    assert digests.changed(old, old) == []
    read = {name: each | {"contents": each["names"]} for name, each in old.items()}
    other = {"train": read["train"] | {"contents": "x"}, "test": part("d", "e", 6)}
    assert digests.changed(read, other) == ["train images", "test images"]  # of equal sizes


# -- what a member's numbers depend on -----------------------------------------------------------


def training(member=1, teachers=(), **changes):
    return Run(tiny(**changes)).record.training(member, teachers)


def data(**changes):
    return dataclasses.replace(tiny().data, **changes)


SAME = {
    "members": {"members": 5},
    "fusion": {"fusion": "logits"},
    "workdir": {"workdir": "elsewhere"},
    "log": {"log_every": 7, "save_every": 3, "evaluation_batch_size": 10},
    "placement": {"data": data(placement="host")},
    "links": {"data": data(allow_links="/")},
    "taxonomy": {"data": data(taxonomy="birds.csv")},
    "transfer, which the first member does not feel": {"transfer": Transfer(alpha=0.1)},
    "what is automatic, said": {"data": data(views=2, view_sharing="shared", view_seed=0)},
}
OTHER = {
    "seed": {"seed": 1},
    "epochs": {"epochs": 3},
    "views": {"data": data(views=1)},
    "view seed": {"data": data(view_seed=5)},
    "crop": {"data": data(crop=30)},
    "banner": {"data": data(banner=0)},
    "images": {"data": data(images_per_class=7)},
    "classes": {"data": data(classes=3)},
    "network": {"network": Network(name="resnet_micro", head_width=8)},
    "later option": {
        "network": Network(name="resnet_micro", head_width=16, frozen_norm=True),
    },
    "optimizer": {"optimizer": Optimizer(learning_rate=0.01)},
    "objective": {"objective": "hsd"},
}


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME)
def test_a_first_member_is_the_same_whatever(changes):
    assert training(**changes) == training()


@pytest.mark.parametrize("changes", OTHER.values(), ids=OTHER)
def test_a_first_member_is_another_with_another(changes):
    assert training(**changes) != training()


def test_later_members_depend_on_their_teachers_and_the_transfer():
    assert training(2, ["a"]) != training(2, ["b"]) != training(1)
    assert training(2, ["a"], transfer=Transfer(alpha=0.1)) != training(2, ["a"])
    alone = {"transfer": Transfer(name="none"), "data": data(view_sharing="shared")}
    assert training(2, ["a"], **alone) == training(2, ["b"], **alone)


def test_the_same_classes_in_another_order_are_named():
    record = Run(tiny()).record
    turned = dataclasses.replace(record, classes=record.classes[::-1])
    assert record.others(turned) == "the same classes in another order"
    assert record.others(record) == ""


# -- how numbers are computed, by part ------------------------------------------------------------

NOT_MIRRORED = dataclasses.replace(Experiment().data, flip=False)
DEEP = Network(name="convnext_micro", stochastic_depth=0.1)
HALF = Network(name="convnext_micro", dtype="bfloat16")
BEHIND_A_TRUNK = Network(name="vit_micro", frozen="stage3")
# Member 2's digests as they were when the first lines of the ledger were written.
GOLDEN = {
    "542f711f8f01a455": {},
    "b248e87fa9693f4f": {"transfer": Transfer(name="orthogonal", maps="online")},
    "e4b345a94269ff87": {"objective": "hsd"},
    "6a656477935d292a": {"objective": "csdnet"},
    "71a8905535a8e882": {
        "objective": "csdnet",
        "csdnet": CSDNet(view="adaptive"),
        "data": NOT_MIRRORED,
    },
    "3ce24f4a2db70329": {"objective": "kd", "kd": KD(teacher="t")},
    "39dde085cd1532de": {"data": NOT_MIRRORED},
    "ad5be8e4c716e212": {"network": Network(frozen="stage3")},
    "5759ee5c85e79281": {"network": Network(name="convnext_micro", dtype="float32")},
    "7c981a4ce312ef96": {"network": Network(name="resnet50", dtype="bfloat16")},
}
# Those of runs that compute with a part that was raised since.
ANEW = {
    "a7899e37d9aaeade": ("stochastic depth", {"network": DEEP}),
    "010bdbe1da4009d1": ("second view", {"objective": "csdnet", "data": NOT_MIRRORED}),
    "0a117d87dad6c3f8": ("bfloat16 depthwise", {"network": HALF}),
    "51f2b554ac2b6894": ("solved head", {"objective": "linear"}),
    "6f0aca5efdaa1762": ("cached transformers", {"network": BEHIND_A_TRUNK}),
}


def of(changes):
    known = {"weights": None, "data": "d", "teacher": "e", "train": {}}
    return Record(Experiment(**changes), ("a", "b"), known, False)


@pytest.mark.parametrize(("digest", "changes"), GOLDEN.items())
def test_what_came_later_leaves_the_digests_of_earlier_runs(digest, changes):
    """Who adds an option declares it `later`; who changes what a part computes raises its integer
    in NUMERICS."""
    assert digests.NUMERICS["step"] == 2
    assert of(changes).training(2, ["t"])[:16] == digest


@pytest.mark.parametrize(("digest", "part", "changes"), [(k, *v) for k, v in ANEW.items()])
def test_a_part_that_is_computed_otherwise_is_in_the_digests_of_its_runs(
    digest, part, changes, monkeypatch
):
    assert of(changes).training(2, ["t"])[:16] != digest
    assert of(changes).numerics(2) == {"step": 2, part: digests.NUMERICS[part]}
    monkeypatch.setitem(digests.NUMERICS, part, 1)  # as it was
    assert of(changes).training(2, ["t"])[:16] == digest


def test_numerics_of_the_step_are_in_every_digest_and_of_a_part_in_its_own(monkeypatch):
    plain, trunk, student = (
        {},
        {"network": BEHIND_A_TRUNK},
        {"objective": "kd", "kd": KD(teacher="t")},
    )
    before = [of(each).training(1, []) for each in (plain, trunk)]
    part = "cached transformers"
    monkeypatch.setitem(digests.NUMERICS, part, digests.NUMERICS[part] + 1)
    now = [of(each).training(1, []) for each in (plain, trunk)]
    assert now[0] == before[0] and now[1] != before[1]
    taught = of(student)
    assert taught.numerics(1) == 2
    taught.digests["teacher_parts"] = [part]
    assert part in taught.numerics(1)
    monkeypatch.setitem(digests.NUMERICS, "step", digests.NUMERICS["step"] + 1)
    assert of(plain).training(1, []) != before[0]


LEDGER = sorted((ROOT / "scripts/studies/results").glob("*.jsonl"))


@pytest.mark.parametrize("file", LEDGER, ids=[file.stem for file in LEDGER])
def test_the_ledgers_digests_are_still_formed(file):
    """From a line's config and what else it tells, for every member."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    finished = [line for line in lines if line["status"] == "finished"]
    assert finished
    for line in finished:
        values, known = config.to_dict(Experiment()), line["digests"]
        for name, value in line["config"].items():
            values[name] = values[name] | value if isinstance(value, dict) else value
        # No set of the ledger has groups, which a solver would hold out whole.
        told = {"teacher": None, "train": {}} | known
        record = Record(config.from_dict(values), (), told, False)
        for member, digest in enumerate(known["training"], start=1):
            assert record.training(member, known["members"][: member - 1]) == digest


def test_a_program_is_known_by_all_of_its_modules():
    found = digests.of_program()
    assert found == digests.of_program() and len(found) == 64
