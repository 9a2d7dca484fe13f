"""Which classes belong together: a CSV file, our table of CUB's birds, and what a workdir keeps."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import tiny

from fgvc_jax.data.taxonomy import _CUB_FILE, Taxonomy, of_folders, read_taxonomy
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import taxonomy

CLASSES = "Corvus corax", "Corvus corone", "Pica pica", "Parus major"
TEXT = """species,genus,family
Corvus corax,Corvus,Corvidae
Corvus corone,Corvus,Corvidae
Parus major,Parus,Paridae
Pica pica,Pica,Corvidae
Turdus merula,Turdus,Turdidae
"""


def written(folder, text=TEXT, encoding="utf-8"):
    file = folder / "birds.csv"
    file.write_bytes(text.encode(encoding))
    return str(file)


def test_levels_and_groups_are_in_the_order_of_the_classes(tmp_path):
    found = read_taxonomy(written(tmp_path), CLASSES)
    assert found.levels == ("species", "genus", "family")
    assert found.names == (CLASSES, ("Corvus", "Pica", "Parus"), ("Corvidae", "Paridae"))
    np.testing.assert_array_equal(found.groups, [[0, 1, 2, 3], [0, 0, 1, 2], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    "text, encoding",
    [
        (TEXT, "utf-8-sig"),
        (TEXT.replace("\n", "\r\n\r\n"), "utf-8"),
        (TEXT.replace(",", " , "), "utf-8"),
        (TEXT.replace("Pica pica,Pica", '"Pica pica",Pica'), "utf-8"),
    ],
)
def test_a_mark_blank_lines_spaces_and_quotes_do_not_matter(tmp_path, text, encoding):
    assert read_taxonomy(written(tmp_path, text, encoding), CLASSES) == read_taxonomy(
        written(tmp_path), CLASSES
    )


def test_names_match_in_another_form_of_accents_and_stay_as_the_dataset_has_them(tmp_path):
    text = "species,genus\nfe\u0301e,x\ne\u0301cu,y\n"
    found = read_taxonomy(written(tmp_path, text), ["f\u00e9e", "e\u0301cu"])
    assert found.names[0] == ("f\u00e9e", "e\u0301cu")


def test_names_match_however_they_are_spaced_where_that_is_one_class(tmp_path):
    text = "species,genus\nblack-footed Albatross,x\nA 10,y\na_10,z\n"
    names = ["001.Black_footed_Albatross", "a_10", "A 10"]
    found = read_taxonomy(written(tmp_path, text), names)
    assert found.lineages == ((names[0], "x"), ("a_10", "z"), ("A 10", "y"))


def test_a_genus_may_be_called_as_its_only_species(tmp_path):
    text = "species,genus,family\nSayornis,Sayornis,Tyrannidae\nKiwi,Apteryx,Apterygidae\n"
    assert read_taxonomy(written(tmp_path, text), ["Kiwi", "Sayornis"]).names[1] == (
        "Apteryx", "Sayornis",
    )  # fmt: skip


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("Pica pica,Pica,Corvidae\n", "", "lacks 1 of 4 classes: 'Pica pica': add a row"),
        ("Pica pica,", "Pica pika,", "'Pica pica' (it has 'Pica pika')"),
        ("Pica pica,Pica,Corvidae", "Pica pica,Pica", "2 values for 3 levels"),
        ("Pica pica,Pica,", "Pica pica,,", "line 5: 'Pica pica' has no genus"),
        ("corone,Corvus,Corvidae", "corone,Corvus,Paridae",
         "line 3: genus 'Corvus' is in family 'Paridae' here and in 'Corvidae' at"),
        ("Pica pica,Pica,Corvidae", "Pica pica,Corvidae,Corvus", "nothing is above itself"),
        ("Parus major,", "Corvus corax,", "line 4: 'Corvus corax' is already there"),
        ("species,genus,family", "species,genus,genus", "name every level, each once"),
        ("species,genus,family\n", "", "line 1: 'Corvus corax' is a class: put a header above"),
        ("species,genus,family", "species,,family", "name every level, each once"),
        ("Pica pica", '"Pica', "it is not a row of a CSV file"),
        (TEXT, "species\nPica pica\n", "has the classes alone"),
        (TEXT, "species,genus\n", "no row below its header"),
        (TEXT, "", "no row below its header"),
    ],
)  # fmt: skip
def test_what_is_no_tree_of_the_classes_is_refused_in_one_line(tmp_path, old, new, said):
    with pytest.raises(UserError) as error:
        read_taxonomy(written(tmp_path, TEXT.replace(old, new)), CLASSES)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_another_class_that_is_there_is_not_what_was_meant(tmp_path):
    text = "species,genus\nCorvus corax,Corvus\nPica pica,Pica\n"
    with pytest.raises(UserError, match="lacks 1 of 3 classes: 'Corvus corone': add a row"):
        read_taxonomy(written(tmp_path, text), ["Corvus corax", "Corvus corone", "Pica pica"])


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for text, encoding, said in ((None, "", "No such file"), ("\u00e9", "latin-1", "UTF-8")):
        spec = str(tmp_path / "none.csv") if text is None else written(tmp_path, text, encoding)
        with pytest.raises(UserError, match=said):
            read_taxonomy(spec, CLASSES)


# -- CUB -------------------------------------------------------------------------------------------


def test_our_table_of_birds_is_a_tree_of_200_classes():
    header, *lines = [line.split(",") for line in _CUB_FILE.read_text().splitlines()]
    assert header == ["species", "genus", "family", "order"]
    names = [f"{n:03d}.{row[0]}" for n, row in enumerate(lines, start=1)]
    found = read_taxonomy("cub", names)
    assert [len(level) for level in found.names] == [200, 123, 37, 13]
    plain = read_taxonomy("cub", [row[0] for row in lines[:12]])
    np.testing.assert_array_equal(plain.groups[1], [0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 5, 7])
    of = {row[0]: row[1:3] for row in lines}
    assert of["Yellow_breasted_Chat"] == ["Icteria", "Icteriidae"]
    assert of["Spotted_Catbird"] == ["Ailuroedus", "Ptilonorhynchidae"]
    assert of["Gray_Catbird"] == ["Dumetella", "Mimidae"]


def test_our_table_is_of_birds_alone():
    with pytest.raises(UserError, match="--data.taxonomy cub lacks 4 of 4 classes"):
        read_taxonomy("cub", CLASSES)


# -- in a workdir ----------------------------------------------------------------------------------


def asking(spec):
    spec = dataclasses.replace(tiny().data, taxonomy=str(spec))
    return dataclasses.replace(tiny(), data=spec)


def test_what_is_kept_serves_once_the_file_is_gone(tmp_path):
    file = written(tmp_path)
    found = taxonomy.asked(tmp_path, asking(file), CLASSES)
    assert taxonomy.kept(tmp_path, CLASSES) is None
    taxonomy.keep(tmp_path, asking(file), found)
    assert taxonomy.asked(tmp_path, asking(""), CLASSES) == found
    (tmp_path / "birds.csv").unlink()
    assert taxonomy.asked(tmp_path, asking(file), CLASSES) == found
    with pytest.raises(UserError, match="other.csv"):  # but not one that never was
        taxonomy.asked(tmp_path, asking(tmp_path / "other.csv"), CLASSES)
    assert taxonomy.kept(tmp_path, CLASSES[:2]) == Taxonomy(found.levels, found.lineages[:2])
    written(tmp_path, TEXT.replace("Corvidae", "crows"))
    assert taxonomy.asked(tmp_path, asking(file), CLASSES).names[2] == ("crows", "Paridae")


@pytest.mark.parametrize(
    "change",
    [
        {"levels": 3}, {"levels": ["a"]}, {"classes": []}, {"classes": {"Pica pica": "ab"}},
        {"levels": ["a", "b", "c", "d"]},
    ],
)  # fmt: skip
def test_a_damaged_one_is_told(tmp_path, change):
    spec = asking(written(tmp_path))
    taxonomy.keep(tmp_path, spec, taxonomy.asked(tmp_path, spec, CLASSES))
    file = tmp_path / taxonomy.FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError) as error:
        taxonomy.kept(tmp_path, CLASSES)
    assert "taxonomy.json" in str(error.value)
    taxonomy.keep(tmp_path, spec, taxonomy.asked(tmp_path, spec, CLASSES))  # given once more
    assert taxonomy.kept(tmp_path, CLASSES) == read_taxonomy(spec.data.taxonomy, CLASSES)


def test_folders_of_a_dataset_are_one_unless_another_is_named(tmp_path):
    accents = ("jay", "ge\u0301ai", "Corvidae"), ("jay 2", "g\u00e9ai", "Corvidae")
    assert of_folders(accents).names[1] == ("g\u00e9ai",)
    lineages = (("raven", "Corvus", "Corvidae"), ("tit", "Parus", "Paridae"))
    found = taxonomy.asked(tmp_path, asking(""), ("raven", "tit"), lineages)
    assert found == Taxonomy(("class", "group 1", "group 2"), lineages)
    taxonomy.keep(tmp_path, asking(""), found)
    assert taxonomy.asked(tmp_path, asking(""), ("raven", "tit")) == found
    with pytest.raises(UserError, match="group 1 'Corvus' is in group 2"):
        two = [("a", "Corvus", "x"), ("b", "Corvus", "y")]
        taxonomy.asked(tmp_path / "new", asking(""), "ab", two)


def test_where_nothing_can_be_written_a_copy_gets_one(tmp_path, monkeypatch):
    assert f"train '{tmp_path}/a b' --data.taxonomy" in taxonomy.way_out(tmp_path / "a b")
    monkeypatch.setattr(taxonomy.storage, "writable", lambda folder: False)
    told = taxonomy.way_out(tmp_path)
    assert "of a copy elsewhere" in told and "train COPY --data.taxonomy FILE.csv" in told
