"""Lists of images as CSV: read as spreadsheets write them, wrong ones named with their line."""

import io

import numpy as np
import pytest
from datasets import contents, placeholders, refused, write
from PIL import Image

from fgvc_jax.data.csvfile import open_csv
from fgvc_jax.data.images import decode
from fgvc_jax.data.sources import open_source, restrict
from fgvc_jax.utils.errors import UserError


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


def test_a_list_is_split_by_the_column_that_is_named(tmp_path):
    """By site, whatever the column group says, so that the test part has places of its own."""
    names = [f"{n}-{site}.jpg" for n in "ab" for site in range(12)]
    rows = "".join(f"{n},{n[0]},{n},s{n[2:-4]}\n" for n in names)
    spec = listed(tmp_path, f"path,label,group,Site\n{rows}", *names)
    splits = open_source(spec, split_by="site")
    assert set(splits.train.groups) | set(splits.test.groups) == {f"s{n}" for n in range(12)}
    assert len(splits.test) and not set(splits.train.groups) & set(splits.test.groups)
    assert set(open_source(spec).train.groups) < set(names)
    with pytest.raises(UserError, match="no column 'place' to split by: .* path, label, group, s"):
        open_source(spec, split_by="place")
    with pytest.raises(UserError, match="--data.split-by 'site' names a column of a list, and"):
        open_source(f"folder:{tmp_path}", split_by="site")


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
        ('path,label\n1.jpg, "a"\n', ["line 2: the label ' \"a\"' has its quotes behind a space"]),
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
    for encoding in ("utf-16", "utf-16-le"):  # without a mark each byte is a letter of ASCII
        (tmp_path / "list.csv").write_text("path,label\n1.jpg,a\n", encoding=encoding)
        refused(f"csv:{tmp_path}/list.csv", "is not UTF-8 text: save it as CSV in UTF-8")
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
    # It stands in for a test part, as that of a folder does.
    spec = listed(tmp_path, "path,label,split\n1.jpg,a,train\n2.jpg,a,val\n", "1.jpg", "2.jpg")
    for to_train in (True, False):
        splits = open_source(spec, to_train=to_train)
        assert splits.test.names == ("2.jpg",) and splits.validation is None


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


# -- boxes -----------------------------------------------------------------------------------------


def photographs(tmp_path, text, *names):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:30, 30:50] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    write(tmp_path, {"list.csv": text, **dict.fromkeys(names, file.getvalue())})
    return f"csv:{tmp_path / 'list.csv'}"


def test_rows_may_show_a_box_of_an_image(tmp_path):
    """In fractions, in pixels, or the whole of it where there are no numbers."""
    text = (
        "path,label,split,x,y,width,height\n"
        "a.png,owl,train,0.5,0.25,0.3333333,0.5\na.png,auk,train,30,10,20,20\n"
        "b.png,owl,test,,,,\nc.png,auk,test,0,0,1,1\n"
    )
    splits = open_source(photographs(tmp_path, text, "a.png", "b.png", "c.png"))
    assert splits.train.names == (
        "a.png#xywh=percent:50,25,33.3333,50", "a.png#xywh=30,10,20,20",
    )  # fmt: skip
    assert splits.test.names == ("b.png", "c.png#xywh=percent:0,0,100,100")
    squares = [decode(part[i], 16, orientation="exif") for part in (splits.train, splits.test)
               for i in (0, 1)]  # fmt: skip
    assert squares[0][4:-4, 4:-4].min() == squares[1][4:-4, 4:-4].min() == 255
    np.testing.assert_array_equal(squares[2], squares[3])
    assert (squares[2] > 127).mean() < 0.2


def test_boxes_of_an_image_are_never_in_two_parts(tmp_path):
    rows = [f"{n}.png,{label},{k},0,9,9" for n in range(15) for k, label in ((2, "a"), (3, "b"))]
    text = "\n".join(["path,label,x,y,width,height", *rows])
    splits = open_source(photographs(tmp_path, text, *(f"{n}.png" for n in range(15))))
    train, test = ({name.partition("#")[0] for name in part.names} for part in
                   (splits.train, splits.test))  # fmt: skip
    assert len(train) + len(test) == 15 and not train & test and len(test) == 3
    assert len({*splits.train.names, *splits.test.names}) == 30


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["a.png,owl,train,,1,1,2,2", "a.png,owl,test,,3,3,2,2"],
         "group 'a.png' is in test here and in train at"),
        (["a.png,owl,train,g,1,1,2,2", "a.png,owl,train,h,3,3,2,2"],
         "line 3: 'a.png' is already listed by .* line 2: every image belongs to one part, once, "
         "and its boxes to one group"),
        (["a.png,owl,train,,1,1,2,2", "a.png,owl,train,,,,,"], "is already listed by"),
        (["a.png,owl,train,,1,1,2,2", "a.png,owl,train,,1,1,2,2"], "the box .* is already listed"),
        (["a.png,owl,train,,1,1,2,"], "line 2: the box 1,1,2, is not four numbers, x, y, width"),
        (["a.png,owl,train,,nan,1,2,2"], "line 2: the box .* of 'a.png' is not four finite"),
        (["a.png,owl,train,,1,1,0,2"], "is empty"),
        (["a.png,owl,train,,-0.5,0,0.5,1"], "is outside of its image"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_box_is_one_line(tmp_path, rows, words):
    last = ["b.png,owl,test,,,,,"]
    text = "\n".join(["path,label,split,group,x,y,width,height", *rows, *last])
    with pytest.raises(UserError, match=words) as error:
        open_source(photographs(tmp_path, text, "a.png", "b.png"))
    assert "\n" not in str(error.value)


def test_columns_that_are_not_all_of_a_box_mean_nothing(tmp_path):
    """As before there were boxes: a width and a height may be the image's."""
    text = "path,label,split,width,height\na.png,owl,train,60,40\nb.png,owl,test,60,40\n"
    splits = open_source(photographs(tmp_path, text, "a.png", "b.png"))
    assert splits.train.names == ("a.png",) and "box" not in splits.train[0]


def test_a_box_that_is_outside_of_its_image_is_told_when_that_is_read(tmp_path):
    text = "path,label,split,x,y,width,height\na.png,owl,train,70,1,9,9\nb.png,owl,test,,,,\n"
    splits = open_source(photographs(tmp_path, text, "a.png", "b.png"))
    words = r"a.png' has the box 70,1,9,9, which has less than one pixel of its image of 60 x 40"
    with pytest.raises(UserError, match=words):
        decode(splits.train[0], 16, orientation="exif")
