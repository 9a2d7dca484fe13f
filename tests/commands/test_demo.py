"""python -m fgvc_jax.demo: what its page is told of a photograph, whatever classes are called."""

import dataclasses
import io
import json
import signal
import sys
import threading
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import command, tiny
from pages import HOSTILE, Elements
from PIL import Image
from reports import NAMES, written

import fgvc_jax
from fgvc_jax.commands import demo
from fgvc_jax.commands.demo import Answerer, Demo
from fgvc_jax.figures.demo import demo_page, sureness_badge
from fgvc_jax.figures.examples import EXAMPLES
from fgvc_jax.inference import gradcam
from fgvc_jax.inference.export import hub
from fgvc_jax.training import members
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import printable


def file_of(image, kind="PNG", **options):
    """The bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two members trained on a folder with difficult names, which is gone; and a photograph."""
    root = tmp_path_factory.mktemp("demo")
    source = written(root / "birds", {"train": 8, "test": 3})
    data = dataclasses.replace(
        tiny().data, source=f"folder:{source}", classes=0, images_per_class=0, validation=0.25
    )
    members.train(tiny(root / "run", data=data))
    photograph = np.asarray(Image.open(next((source / "test").rglob("*.png"))))
    source.rename(root / "gone")
    return root / "run", photograph


@pytest.fixture(scope="module")
def asked(trained):
    return Answerer(Demo(str(trained[0])))


@pytest.mark.slow
def test_an_answer_has_the_numbers_that_python_users_get(trained, asked):
    workdir, photograph = trained
    answer = json.loads(json.dumps(asked.answer(file_of(photograph))))
    expected = fgvc_jax.load(workdir).predict(photograph)[0]
    order = np.argsort(-expected, kind="stable")
    titles = [printable(asked.classes[label]) for label in order]
    assert [each["name"] for each in answer["classes"]] == titles
    found = [each["probability"] for each in answer["classes"]]
    np.testing.assert_allclose(found, expected[order], rtol=1e-4)
    assert set(titles) == {printable(name) for name in NAMES} and "d\\u202eright" in titles
    assert len(answer["members"]) == asked.members == 2
    says = [member["says"] for member in answer["members"]]
    assert answer["agreement"] == says.count(titles[0]) / 2
    assert answer["why"]["against"] == titles[1]
    # Eight validation images cannot promise that, and let nothing be called strange.
    assert asked._least is not None
    assert answer["sure"] == sureness_badge(None, 0.05, least=asked._least)
    assert answer["sure"]["words"].startswith("Too few photographs were kept apart")


@pytest.mark.slow
def test_pictures_are_inside_the_answer(trained, asked):
    answer = asked.answer(file_of(trained[1]))
    members = [member[kind] for member in answer["members"] for kind in ("attention", "evidence")]
    maps = [*members, answer["why"]["evidence"], answer["why"]["contrast"], answer["image"]]
    for address in [*maps, *(e for each in answer["classes"] for e in each["examples"])]:
        with urllib.request.urlopen(address) as file:  # a data: address
            assert Image.open(file).size[0] > 8
    assert [len(each["examples"]) for each in answer["classes"]] == 4 * [EXAMPLES]


@pytest.mark.slow
def test_the_whole_photograph_is_shown_with_what_is_seen_of_it(asked):
    wide = np.zeros((200, 400, 3), np.uint8)
    answer = asked.answer(file_of(wide))
    with urllib.request.urlopen(answer["image"]) as file:
        assert Image.open(file).size == (320, 160)
    assert not answer["whole"]  # a crop of 32 pixels of 36


@pytest.mark.slow
def test_each_class_is_shown_with_a_photograph_that_can_be_asked_about(asked):
    known = json.loads(json.dumps(asked.known))
    assert known["names"] == list(map(printable, asked.classes))
    assert [len(known["pictures"][str(n)]) for n in range(len(NAMES))] == [1] * len(NAMES)
    answer = asked.answer_kept(1)
    kept = np.asarray(Image.open(io.BytesIO(asked._examples.first(1))))
    assert answer["classes"] == asked.answer(file_of(kept))["classes"]
    with pytest.raises(UserError, match="The kept photograph is empty"):
        asked.answer_kept(99)


@pytest.mark.slow
def test_a_kept_photograph_has_no_banner_any_more(trained, asked):
    cut = Answerer(Demo(str(trained[0]), banner=8))
    assert cut.answer_kept(0)["classes"] == asked.answer_kept(0)["classes"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (("ant", "species", 0.9), None),
        (("Formica\u202e", "genus", 0.97), ("Formica\\u202e", "genus", 0.97)),
        (("", "", 1.0), ("", "", 1.0)),
    ],
)
def test_what_is_safe_to_say_where_the_class_is_not(trained, asked, monkeypatch, answer, told):
    rows = asked._rows

    class Climbing:
        coarsening = SimpleNamespace(taxonomy=SimpleNamespace(levels=("species", "genus")))

        def of(self, some):
            coarser = dict(zip(("answer", "level", "answer_probability"), answer, strict=True))
            return (row | coarser for row in rows.of(some))

    assert asked.answer(file_of(trained[1]))["coarser"] is None  # without a taxonomy
    monkeypatch.setattr(asked, "_rows", Climbing())
    found = asked.answer(file_of(trained[1]))["coarser"]
    names = "name", "level", "probability"
    assert found == (told and dict(zip(names, told, strict=True)))


def test_an_export_on_a_hub_is_asked_like_a_run(trained, asked, monkeypatch):
    """It keeps no photographs."""
    opened = []
    monkeypatch.setattr(hub, "open_hub", lambda path, **_: opened.append(path) or asked._model)
    other = Answerer(Demo("hf:museum/birds"))
    assert opened == ["hf:museum/birds"] and other.known["pictures"] == {}
    upload = file_of(trained[1])
    names = [each["name"] for each in asked.answer(upload)["classes"]]
    assert [each["name"] for each in other.answer(upload)["classes"]] == names


@pytest.mark.slow
def test_a_photograph_is_turned_as_its_exif_tag_says(asked, trained):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = file_of(np.rot90(trained[1]), "PNG", exif=exif)  # shown: turned clockwise
    assert asked.answer(turned)["classes"] == asked.answer(file_of(trained[1]))["classes"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("upload", "words"),
    [
        (b"", "This file is empty"),
        (b"hello", "This file is none of .*JPEG"),
        (file_of(np.zeros((64, 64, 3), np.uint8))[:60], "This file is cut off"),
        (file_of(np.zeros((1, 70_000, 3), np.uint8)), "a side above 65,535"),
        (file_of(np.zeros((9_000, 9_000), bool)), "more than 80,000,000"),
    ],
    ids=["empty", "text", "cut", "long", "large"],
)
def test_what_is_no_photograph_is_a_sentence(asked, upload, words):
    with pytest.raises(UserError, match=words) as error:
        asked.answer(upload)
    assert str(error.value).endswith(".") and "dataset" not in str(error.value)


def test_how_sure_it_is_in_words():
    assert sureness_badge(None, 0.05)["badge"] == "" and "about" not in sureness_badge(None, 0.05)
    assert (
        sureness_badge(False, 0.125)["about"]
        == "promised risk 12.5%, at a confidence of 95%: --risk"
    )
    assert sureness_badge(False, 0.125)["words"] == "At most 1 in 8 answers like this is wrong."
    assert sureness_badge(False, 0.07)["words"] == "At most 7 in 100 answers like this are wrong."
    assert (
        sureness_badge(True, 0.7)["words"] == "More than 70 in 100 answers like this may be wrong."
    )
    assert sureness_badge(False, 0.01)["words"] == "At most 1 in 100 answers like this is wrong."
    promised_instead = sureness_badge(None, 0.05, least=0.17)
    assert promised_instead["badge"] == ""
    assert promised_instead["words"].endswith(
        "at most 1 in 20 of them is wrong; for 17 in 100 there are enough."
    )
    unsure = sureness_badge(True, 0.05)
    assert unsure["badge"] == "unsure"
    assert unsure["words"] == "More than 1 in 20 answers like this may be wrong."
    assert sureness_badge(False, 0.05, 0.06) == sureness_badge(False, 0.05)
    strange = sureness_badge(False, 0.05, 0.034)
    assert (
        strange["badge"] == "none of these?"
        and "Only about 1 in 29 photographs" in strange["words"]
    )


def test_the_page_asks_its_own_server_alone():
    text = demo_page(HOSTILE, 1234, members=2, most_bytes=2**20)
    parsed = Elements(text)
    assert parsed.tags.count("script") == 1 and "connect-src 'self'" in text
    assert not {"form", "link", "iframe"} & set(parsed.tags)
    assert "innerHTML" not in text and "http:" not in text and "https:" not in text
    assert dict(parsed.attributes)["data-large"].startswith("The file has more than 1 MiB")
    assert "2 networks" in parsed.text and "1,234 classes" in parsed.text
    assert parsed.attributes.count(("capture", "environment")) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "70000"], "--port is 70000: it must be at most 65535"),
        (["--host", "no.such.host.invalid", "--port", "0"], "--host 'no.such.host.invalid'"),
        (["--risk", "1"], "--risk is 1"),
        (["--prot", "1"], "did you mean --port"),
        (["--port", "0", "--workdir", "nowhere"], "nowhere.*no config.json"),
    ],
)
def test_mistakes_are_told_in_one_line(words, told):
    pytest.importorskip("uvicorn")
    with pytest.raises(UserError, match=told) as error:
        demo.main(words)
    assert "\n" not in str(error.value)


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "fgvc_jax.commands.server", raising=False)
    monkeypatch.delattr(fgvc_jax.commands, "server", raising=False)
    with pytest.raises(UserError, match=r"uvicorn is not installed: pip install '.*\[demo\]'"):
        demo.main([])


@pytest.mark.slow
def test_the_page_is_there_before_an_answer_is_compiled(trained, monkeypatch):
    """The first question waits for what is being prepared, whose failure ends nothing."""
    server = pytest.importorskip("fgvc_jax.commands.server")
    find, begun, served = gradcam.find_evidence, threading.Event(), threading.Event()
    inside = []

    def slowly(*arguments, **options):
        inside.append(threading.current_thread())
        begun.set()
        assert served.wait(60)
        if len(inside) == 1:
            raise ValueError("of what is prepared")
        return find(*arguments, **options)

    def serve(asked, listening):
        assert begun.wait(60)
        question = threading.Thread(target=lambda: told.append(asked.answer(photograph)))
        question.start()
        question.join(0.2)
        assert len(inside) == 1 and not told  # the question waits
        served.set()
        question.join(60)

    told, photograph = [], file_of(trained[1])
    monkeypatch.setattr(gradcam, "find_evidence", slowly)
    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setattr(server, "application", lambda page, asked, names: asked)
    demo.demo(Demo(str(trained[0]), port=0))
    assert len(told[0]["classes"]) == 4 and len(inside) == 2


@pytest.mark.slow
def test_as_a_command_until_interrupted(trained):
    pytest.importorskip("uvicorn")
    process = command("demo", "--workdir", trained[0], "--port", 0)
    address = process.stdout.readline().split()[0]
    with urllib.request.urlopen(f"{address}/answer", data=file_of(trained[1])) as response:
        assert len(json.load(response)["classes"]) == 4
    with urllib.request.urlopen(f"{address}/known") as response:
        assert len(json.load(response)["names"]) == 4
    port = address.rpartition(":")[2]
    second = command("demo", "--workdir", trained[0], "--port", port)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 2 and err.count("\n") == 1 and "--port" in err
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert err.splitlines()[-1].startswith("interrupted: nothing that was uploaded is kept")
