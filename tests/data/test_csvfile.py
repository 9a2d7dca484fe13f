"""Lists of images as CSV: read as spreadsheets write them, wrong ones named with their line."""

import numpy as np
import pytest
from datasets import contents, placeholders, refused, write

from fgvc_jax.data.csvfile import open_csv
from fgvc_jax.data.sources import open_source, restrict


def listed(root, text, *images):
    """list.csv with a text below root, and placeholders for the images it lists."""
    write(root, {"list.csv": text, **placeholders(*images)})
    return f"csv:{root}/list.csv"


def test_parts_and_groups(tmp_path):
    text = (
        "\ufeffLabel, path ,split,group,note\r\n"
        'Wren,a/1.jpg,train,nest 1,"x, y"\r\n'
        "\r\n"
        "Auk,./2.jpg,Train,,\r\n"
        'Wren,"a, ""b"".jpg",validation,,\r\n'
        "Wren,a/3.jpg, test ,nest 2,\r\n"
    )
    spec = listed(tmp_path, text, "a/1.jpg", "2.jpg", 'a, "b".jpg', "a/3.jpg")
    splits = open_source(spec)
    assert splits.classes == ("Auk", "Wren") and (splits.orientation, splits.decode) == (
        "exif",
        "scaled",
    )
    assert contents(splits.train) == [("a/1.jpg", 1, 0), ("2.jpg", 0, 1)]
    assert [name for name, _, _ in contents(splits.validation)] == ['a, "b".jpg']
    assert [name for name, _, _ in contents(splits.test)] == ["a/3.jpg"]
    assert splits.train.groups.tolist() == ["nest 1", ""] and splits.validation.groups is None
    assert len({*splits.train.ids, *splits.validation.ids, *splits.test.ids}) == 4


def test_names_over_several_lines(tmp_path):
    odd = "a\nb<script>.jpg"
    spec = listed(tmp_path, f'path,label,split\n"{odd}","x\ny",train\nt.jpg,"x\ny",tset\n', odd)
    refused(spec, "list.csv' line 5", "split 'tset' is none of", "did you mean 'test'")
    spec = listed(tmp_path, f'path,label,split\n"{odd}","x\ny",train\nt.jpg,"x\ny",test\n', "t.jpg")
    splits = open_source(spec)
    assert splits.classes == ("x\ny",) and splits.train.names == (odd,)


def test_without_parts_groups_stay_together(tmp_path):
    """Ten individuals of each of two classes, four photographs of each."""
    names = [f"{c}{i:02d}_{k}.jpg" for c in "ab" for i in range(10) for k in range(4)]
    text = "path,label,group\n" + "".join(f"{n},{n[0]},{n[:3]}\n" for n in names)
    splits = open_source(listed(tmp_path, text, *names))
    assert np.bincount(splits.test.labels).tolist() == [8, 8]
    assert not set(splits.train.groups) & set(splits.test.groups)
    small = restrict(splits, classes=0, images_per_class=0, validation=0.25, seed=3)
    groups = [set(part.groups) for part in small.parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20
    assert np.bincount(small.validation.labels).tolist() == [8, 8]
    other = open_csv(str(tmp_path / "list.csv"), seed=1)
    assert set(other.test.names) != set(splits.test.names)


def test_without_groups_every_image_is_its_own(tmp_path):
    names = [f"{c}{i}.jpg" for c in "ab" for i in range(10)]
    text = "path,label\n" + "".join(f"{name},{name[0]}\n" for name in names)
    splits = open_source(listed(tmp_path, text, *names))
    assert np.bincount(splits.test.labels).tolist() == [2, 2] and splits.train.groups is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["list.csv' is empty", "path, label and perhaps split, group"]),
        ("\n\n", ["list.csv' is empty"]),
        ("path,label\n", ["has no row below its header"]),
        ("file,label\n1.jpg,a\n", ["line 1: the header 'file,label' lacks the column 'path'"]),
        ("path;label\n1.jpg;a\n", ["line 1", "lacks the column 'path'", "with commas"]),
        ("path,label,path\n", ["line 1: the column 'path' is there 2 times"]),
        ("path,label\n1.jpg,a\n2.jpg,a,b\n", ["line 3 has 3 values for 2 columns: quote"]),
        ("path,label\n1.jpg\n", ["line 2 has 1 values for 2 columns"]),
        ("path,label\n1.jpg, \n", ["line 2 has no label"]),
        ("path,label\n ,a\n", ["line 2 has no path"]),
        ('path,label\n"1.jpg,a\n', ["line 2: unexpected end of data"]),
        ("path,label,split\n1.jpg,a,\n", ["line 2: split '' is none of train, validation, test"]),
        ("path,label,split\n1.jpg,a,valida\n", ["did you mean 'validation'"]),
        ("path,label,split\n1.jpg,a,train\n", ["list.csv' has no row with split 'test'"]),
        ("path,label,split\n1.jpg,a,test\n", ["list.csv' has no row with split 'train'"]),
        (
            "path,label\n1.jpg,a\n2.jpg,a\n1.jpg,b\n3.jpg,b\n",
            ["line 4: '1.jpg' is already", "line 2"],
        ),
        ("path,label\n1.jpg,a\n./1.jpg,a\n", ["line 3: '1.jpg' is already listed"]),
        ("path,label\n1.jpg,a\n../2.jpg,a\n", ["line 3: '../2.jpg' is not a path inside"]),
        ("path,label\n1.jpg,a\n/etc/passwd,a\n", ["line 3: '/etc/passwd' is an absolute path"]),
        ("path,label\n1.jpg,a\nz.jpg,a\n", ["line 3: image", "z.jpg' does not exist"]),
        ("path,label\n1.jpg,a\n2.jpg,a\n3.jpg,b\n", ["class 'b' of", "one image or group only"]),
        (
            "path,label,group\n1.jpg,a,g\n2.jpg,a,g\n",
            ["class 'a' of", "one image or group only"],
        ),
        (
            "path,label,split,group\n1.jpg,a,train,g\n2.jpg,a,test,g\n",
            ["line 3: group 'g' is in test here and in train at", "line 2: a group belongs"],
        ),
        (
            "path,label,split\n1.jpg,a,train\n2.jpg,b,test\n",
            ["class 'b' has no training image"],
        ),
    ],
)
def test_mistakes(tmp_path, text, words):
    refused(listed(tmp_path, text, "1.jpg", "2.jpg", "3.jpg"), *words)


def test_files_that_are_no_list(tmp_path):
    refused(f"csv:{tmp_path}/none.csv", "cannot read list", "none.csv': No such file")
    refused(f"csv:{tmp_path}", "cannot read list", "Is a directory")
    (tmp_path / "list.csv").write_bytes(b"path,label\n\xff.jpg,a\n")
    refused(f"csv:{tmp_path}/list.csv", "is not UTF-8 text")
    (tmp_path / "list.csv").write_bytes(b"path,label\n" + b"x" * 200_000 + b",a\n")
    refused(f"csv:{tmp_path}/list.csv", "line 2: field larger than field limit")


def test_links_stay_inside(tmp_path):
    (tmp_path / "outside.jpg").touch()
    spec = listed(tmp_path / "set", "path,label\n1.jpg,a\n2.jpg,a\n", "1.jpg")
    (tmp_path / "set/2.jpg").symlink_to(tmp_path / "outside.jpg")
    refused(spec, "line 3: '2.jpg' is a link that leaves")


def test_paths_as_other_programs_write_them(tmp_path):
    """An absolute path inside, a doubled slash, spaces around, backslashes; but a file's own name
    is what it is."""
    text = f"path,label\n{tmp_path}/a/1.jpg,a\na//2.jpg,a\n a/3.jpg ,a\na\\4.jpg,a\na\\5.jpg,a\n"
    own = "a\\5.jpg"
    spec = listed(tmp_path, text, "a/1.jpg", "a/2.jpg", "a/3.jpg", "a/4.jpg", own)
    splits = open_source(spec)
    names = sorted(splits.train.names + splits.test.names)
    assert names == ["a/1.jpg", "a/2.jpg", "a/3.jpg", "a/4.jpg", own]
    again = listed(tmp_path, f"path,label\n{tmp_path}/a/1.jpg,a\na/1.jpg,a\n")
    refused(again, "line 3: 'a/1.jpg' is already listed at", "line 2")


def test_val_is_a_validation_part(tmp_path):
    text = "path,label,split\n1.jpg,a,train\n2.jpg,a,VAL\n3.jpg,a,Valid\n4.jpg,a,test\n"
    splits = open_source(listed(tmp_path, text, "1.jpg", "2.jpg", "3.jpg", "4.jpg"))
    assert splits.validation.names == ("2.jpg", "3.jpg")


def test_accents_in_two_forms_are_one(tmp_path):
    """A Mac stores e and its accent apart (NFD), most programs write them as one (NFC)."""
    one, apart = "caf\u00e9", "cafe\u0301"
    text = f"path,label,split\n{one}/1.jpg,{one},train\nb.jpg,b,train\n{one}/2.jpg,{apart},test\n"
    spec = listed(tmp_path, text, f"{apart}/1.jpg", f"{apart}/2.jpg", "b.jpg")
    splits = open_source(spec)
    assert splits.classes == ("b", one)
    assert splits.train.names == (f"{one}/1.jpg", "b.jpg")  # as the list has them
    assert splits.train[0]["image"] == f"{apart}/1.jpg".encode()
    assert splits.train.stat(0) and splits.test.labels.tolist() == [1]


def test_accents_that_could_be_two_files_are_told(tmp_path):
    """Letters with two accents have more than two forms."""
    forms = "\u01d6", "u\u0308\u0304", "\u00fc\u0304"
    text = f"path,label\n{forms[0]}.jpg,a\nb.jpg,a\n"
    spec = listed(tmp_path, text, "b.jpg", *(f"{form}.jpg" for form in forms[1:]))
    refused(spec, "line 2", "is not there, and 2 names read the same")


def test_a_list_to_be_judged_needs_no_training_part(tmp_path):
    images = [f"{i}.jpg" for i in range(5)]
    rows = "".join(f"{name},a\n" for name in images)
    whole = open_source(listed(tmp_path, f"path,label\n{rows}", *images), to_train=False)
    assert whole.test.names == tuple(images) and not len(whole.train)
    text = "path,label,split\n0.jpg,a,test\n1.jpg,b,test\n"
    spec = listed(tmp_path, text, *images)
    assert open_source(spec, to_train=False).test.names == ("0.jpg", "1.jpg")
    refused(spec, "has no row with split 'train'")
