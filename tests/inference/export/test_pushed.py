"""What goes to the hub, and how, without one."""

from unittest import mock

import pytest
from exports import trained

from fgvc_jax.inference.export import hub, pushed, writing
from fgvc_jax.utils.errors import UserError

TOKEN = "not-a-token"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("hub") / "out"
    of = trained(members=2, head="linear")
    format = pushed.illustrated(hub.FORMAT, {0: ["data:image/jpeg;base64,AA=="]})
    with mock.patch.object(writing, "_tried", return_value="not tried"):
        writing.write(of, path, "hub", format)
    return path


@pytest.fixture
def api(monkeypatch):
    """The hub's client: what it is asked is what it can be asked."""
    package = pytest.importorskip("huggingface_hub")
    monkeypatch.setenv(pushed.TOKEN, TOKEN)
    made = mock.create_autospec(package.HfApi, instance=True)
    made.model_info.return_value.private = True
    made.list_repo_files.return_value = [".gitattributes"]
    opened = mock.Mock(return_value=made)
    monkeypatch.setattr(package, "HfApi", opened)
    yield made
    opened.assert_called_once_with(token=TOKEN)


def listed(folder):
    return pushed.files(folder, pictures=True)


def operations(api):
    (call,) = api.create_commit.call_args_list
    assert call.args[0] == "museum/birds" and call.kwargs["repo_type"] == "model"
    return [(type(each).__name__[15:], each.path_in_repo) for each in call.args[1]]


NAMES = [
    "README.md", "config.json", "examples.json", "export.json", "labels.json", "labels.txt",
    "model-02.safetensors", "model.safetensors", "selftest.npz", "selftest.py",
]  # fmt: skip


@pytest.mark.slow
def test_a_dry_run_tells_each_file_and_its_size(folder):
    text = pushed.told(listed(folder), "museum/birds", public=False)
    assert text.startswith("would go to museum/birds (private): 10 files, ")
    sizes = {name: float(size) for size, _, name in map(str.split, text.splitlines()[1:])}
    assert sorted(sizes) == NAMES
    weights = (folder / "model.safetensors").stat().st_size
    assert sizes["model.safetensors"] == pytest.approx(weights / 1e6, abs=1e-3)


def test_photographs_go_only_where_they_are_asked_for(folder):
    with pytest.raises(UserError, match="examples.json has photographs.*--with-thumbnails"):
        pushed.files(folder, pictures=False)


def test_nothing_else_goes(folder, monkeypatch):
    monkeypatch.setattr(pushed.storage, "read_json", lambda _: {"files": ["bird.jpg"]})
    with pytest.raises(UserError, match="'bird.jpg' is nothing that an export"):
        pushed.files(folder, pictures=True)


@pytest.mark.parametrize("public", [False, True])
def test_everything_goes_in_one_commit_and_is_private_unless_asked_for(folder, api, public):
    api.model_info.return_value.private = not public
    done = pushed.push(folder, "museum/birds", listed(folder), public=public)
    api.create_repo.assert_called_once_with(
        "museum/birds", private=not public, repo_type="model", exist_ok=True
    )
    assert operations(api) == [("Add", name) for name in NAMES]
    assert ("public" in done, "fill in the licence" in done) == (public, True)
    assert TOKEN not in done


def test_a_card_that_was_filled_in_stays_and_members_that_are_no_more_go(folder, api):
    api.list_repo_files.return_value = [
        "README.md", "config.json", "model-02.safetensors", "model-03.safetensors", "notes.txt",
    ]  # fmt: skip
    done = pushed.push(folder, "museum/birds", listed(folder), public=False)
    wanted = [("Add", name) for name in NAMES if name != "README.md"]
    assert operations(api) == [*wanted, ("Delete", "model-03.safetensors")]
    assert "README.md there was left as it is" in done


def test_a_public_repository_is_not_taken_for_a_private_one(folder, api):
    api.model_info.return_value.private = False
    with pytest.raises(UserError, match="is there already, and public: add --public"):
        pushed.push(folder, "museum/birds", listed(folder), public=False)
    api.create_commit.assert_not_called()


def test_what_the_hub_says_is_a_line(folder, api):
    api.create_repo.side_effect = OSError("403 Forbidden\nRequest ID: 1")
    with pytest.raises(UserError, match=r"the hub refused .403 Forbidden.*HF_TOKEN") as told:
        pushed.push(folder, "museum/birds", listed(folder), public=False)
    assert "\n" not in str(told.value) and TOKEN not in str(told.value)


@pytest.mark.parametrize("name", ["birds", "a/b/c", "a/ b", "../x", "/x", "https://hub/a/b"])
def test_another_form_of_name_is_refused(name):
    with pytest.raises(UserError, match="expected ORG/NAME"):
        pushed.check(name, dry_run=True)


def test_a_token_and_the_package_are_asked_for_before_the_work_begins(monkeypatch):
    monkeypatch.delenv(pushed.TOKEN, raising=False)
    pushed.check("museum/birds", dry_run=True)
    monkeypatch.setattr(pushed.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        pushed.check("museum/birds", dry_run=False)
    monkeypatch.setattr(pushed.importlib.util, "find_spec", lambda _: object())
    with pytest.raises(UserError, match="in the variable HF_TOKEN"):
        pushed.check("museum/birds", dry_run=False)


def test_the_card_says_what_it_is_not_for(folder):
    text = (folder / "README.md").read_text()
    assert "license:  # fill in" in text and "## Limits" in text and "## Not for" in text
    assert "It knows 6 classes and no other" in text and "It was not judged" in text
