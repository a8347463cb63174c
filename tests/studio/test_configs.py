"""Configurations as the page has them: the form changes one key, and nothing else."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from frisket.config.load import ConfigError, load
from frisket.studio.configs.check import check_text
from frisket.studio.configs.edit import CannotEdit, TreeChange, apply_changes, to_plain
from frisket.studio.workspace import make_id

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.toml"))
SOME = [
    path
    for path in EXAMPLES
    if "families" not in path.parts
    or path.name in ("flux-dev-16gb.toml", "wan-2.2-i2v-a14b-24gb.toml")
]
PLAIN = '[[data]]\nclips = "clips"  # mine\n\n[run]\nsteps = 5\n'


def walk(tree: Any, key: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Every field of a tree as the form has it: tables opened, data sets by their number."""
    listed = isinstance(tree, list) and tree and all(isinstance(each, dict) for each in tree)
    if isinstance(tree, dict) or listed:
        for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from walk(value, (*key, name))
    else:
        yield key, tree


@pytest.mark.parametrize("path", SOME, ids=lambda path: path.name)
def test_a_file_goes_through_the_form_as_it_is(path: Path) -> None:
    text = path.read_text()
    fields = [
        (key, json.loads(json.dumps(to_plain(value)))) for key, value in walk(tomllib.loads(text))
    ]
    assert apply_changes(text, [TreeChange(key, value) for key, value in fields]) == text
    written = apply_changes("", [TreeChange(key, value) for key, value in fields])
    assert tomllib.loads(written) == tomllib.loads(text)


def list_defaults() -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every field of the schema that has a plain default, at its place in a file."""
    schema = json.loads(
        (EXAMPLES[0].parents[2] / "src/frisket/config/config.schema.json").read_text()
    )

    def fields(entry: dict[str, Any], key: tuple[str | int, ...]) -> Iterator[tuple[Any, Any]]:
        name = entry.get("$ref", "").rpartition("/")[2]
        if name:
            for field, inner in schema["$defs"][name].get("properties", {}).items():
                yield from fields(inner, (*key, field))
        elif entry.get("type") == "array" and "$ref" in entry.get("items", {}):
            yield from fields(entry["items"], (*key, 0))
        elif entry.get("default") is not None and key[-1] != "masks":
            yield key, entry["default"]

    for name, entry in schema["properties"].items():
        yield from fields(entry, (name,))


def test_every_field_of_the_schema_can_be_set_and_reset(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    path = tmp_path / "frisket.toml"
    path.write_text(PLAIN)
    plain = load(path)
    fields = [pair for pair in list_defaults() if pair[0][0] != "validation" or len(pair[0]) == 2]
    assert len(fields) > 150
    text = PLAIN
    for key, default in fields:
        changed = apply_changes(text, [TreeChange(key, default)])
        tree: Any = tomllib.loads(changed)
        for part in key:
            tree = tree[part]
        assert tree == default, key
        if key not in {("data", 0, "clips"), ("run", "steps")}:
            assert tomllib.loads(
                apply_changes(changed, [TreeChange(key, remove=True)])
            ) == tomllib.loads(text)
    everything = apply_changes(
        text,
        # These two ask for more than defaults: clips to mix, and the name of a method.
        [TreeChange(key, value) for key, value in fields if key[0] not in {"mix", "identity"}],
    )
    path.write_text(everything)
    assert 'clips = "clips"  # mine' in everything
    assert load(path).model_copy(update={"run": plain.run, "maskgen": plain.maskgen}) == plain


def test_a_short_form_opens_where_a_key_inside_it_is_set() -> None:
    text = (
        '[losses]\ndenoise = 1.0  # error\n[regions]\nface = 1.0\n[[data]]\nclips = "c"\n'
        'masks = "m"  # painted\n[[data]]\nclips = "d"\nmasks = { face = "f" }\n'
    )
    changed = apply_changes(
        text,
        [
            TreeChange(("losses", "denoise", "kind"), "l1"),
            TreeChange(("regions", "face", "phrase"), "sks"),
            TreeChange(("data", 0, "masks", "invert"), True),
            TreeChange(("data", 1, "masks", "require"), True),
            TreeChange(("optimizer", "lr"), 1),
            TreeChange(("optimizer", "options", "betas"), [0.9, 0.99]),
        ],
    )
    tree = tomllib.loads(changed)
    assert tree["losses"]["denoise"] == {"strength": 1.0, "kind": "l1"}
    assert tree["regions"]["face"] == {"weight": 1.0, "phrase": "sks"}
    assert tree["data"][0]["masks"] == {"source": "folder", "path": "m", "invert": True}
    assert tree["data"][1]["masks"] == {
        "source": "regions",
        "regions": {"face": "f"},
        "require": True,
    }
    assert tree["optimizer"] == {"lr": 1, "options": {"betas": [0.9, 0.99]}}
    assert "# error" in changed
    assert "# painted" in changed


def test_numbers_that_json_cannot_hold_come_back_as_they_were() -> None:
    text = "[run]\nseed = 9223372036854775807\n[optimizer]\nlr = inf\n"
    plain = to_plain(tomllib.loads(text))
    assert plain["run"]["seed"] == {"$toml": "9223372036854775807"}
    json.dumps(plain, allow_nan=False)
    changes = [
        TreeChange(("run", "seed"), plain["run"]["seed"]),
        TreeChange(("optimizer", "lr"), plain["optimizer"]["lr"]),
    ]
    assert apply_changes(text, changes) == text


@pytest.mark.parametrize(
    ("text", "change", "words"),
    [
        ("a = [", TreeChange(("a",), 1), "no TOML"),
        (PLAIN, TreeChange(("swap", "rate"), remove=True), "is not there"),
        (PLAIN, TreeChange(("run", "steps"), None), "no null"),
        (PLAIN, TreeChange(("run", "steps", "inner"), 1), "cannot change"),
        (PLAIN, TreeChange(("data", 7, "clips"), "x"), "cannot change"),
        (PLAIN, TreeChange(("run", "seed"), {"$toml": "1\nx = 2"}), "no TOML value"),
    ],
)
def test_what_cannot_be_changed_is_refused(text: str, change: TreeChange, words: str) -> None:
    with pytest.raises(CannotEdit, match=words):
        apply_changes(text, [change])


BROKEN = """[model]
famly = "pocket"
[[data]]
clips = "clips"
resolutoin = 64
[run]
steps = 0
batch = "two"
lr = 1e-3
[lora]
kind = "lora2"
"""


def test_problems_are_the_command_lines_own_words(tmp_path: Path) -> None:
    path = tmp_path / "frisket.toml"
    path.write_text(BROKEN)
    with pytest.raises(ConfigError) as refused:
        load(path)
    problems = check_text(BROKEN, path).describe()["problems"]
    lines = [f"frisket.toml line {each['line']}: {each['message']}" for each in problems]
    assert lines == str(refused.value).splitlines()
    by_key = {tuple(each["key"]): each for each in problems}
    assert by_key["model", "famly"]["fix"]["changes"] == [
        {"key": ["model", "famly"], "to": ["model", "family"]}
    ]
    assert by_key["lora", "kind"]["fix"] == {
        "says": "use lora",
        "changes": [{"key": ["lora", "kind"], "value": "lora"}],
    }
    assert by_key["run", "lr"]["fix"]["changes"] == [
        {"key": ["run", "lr"], "to": ["optimizer", "lr"]}
    ]
    mended = BROKEN
    for each in problems:
        for change in each.get("fix", {"changes": []})["changes"]:
            wanted = TreeChange(
                tuple(change["key"]), change.get("value"), to=tuple(change.get("to", ()))
            )
            mended = apply_changes(mended, [wanted])
    left = {tuple(each["key"]) for each in check_text(mended, path).describe()["problems"]}
    assert left == {("run", "steps"), ("run", "batch")}


def test_a_text_that_is_no_toml_is_told_by_its_line(tmp_path: Path) -> None:
    checked = check_text("[run]\nsteps = = 5\n", tmp_path / "a.toml").describe()
    assert checked["tree"] is None
    assert checked["problems"][0]["line"] == 2
    assert "not valid TOML" in checked["problems"][0]["message"]


@pytest.fixture
def config(folder: Path) -> str:
    (folder / "clips").mkdir()
    (folder / "frisket.toml").write_text(PLAIN)
    return make_id("config", "frisket.toml")


def test_a_file_is_read_changed_and_saved_by_its_revision(
    client: TestClient, folder: Path, config: str
) -> None:
    opened = client.get(f"/api/configs/{config}").json()
    assert (opened["text"], opened["problems"]) == (PLAIN, [])
    changes = [
        {"key": ["run", "steps"], "value": 7},
        {"key": ["swap", "rate"], "remove": True, "maybe": True},
    ]
    edited = client.post(
        f"/api/configs/{config}/edit", json={"text": PLAIN, "changes": changes}
    ).json()
    assert edited["text"] == PLAIN.replace("steps = 5", "steps = 7")
    differences = client.post(
        f"/api/configs/{config}/compare", json={"text": edited["text"]}
    ).json()
    assert [(each["key"], each["before"], each["after"]) for each in differences["changes"]] == [
        (["run", "steps"], 5, 7)
    ]
    body = {"text": edited["text"], "revision": opened["revision"]}
    saved = client.put(f"/api/configs/{config}", json=body)
    assert saved.status_code == 200
    assert (folder / "frisket.toml").read_text() == edited["text"]
    again = client.put(f"/api/configs/{config}", json=body)
    assert again.status_code == 409
    assert again.json()["theirs"]["text"] == edited["text"]
    body = {"text": "[run\n", "revision": saved.json()["revision"]}
    assert client.put(f"/api/configs/{config}", json=body).status_code == 422
    assert (folder / "frisket.toml").read_text() == edited["text"]


@pytest.mark.parametrize(
    "name", ["../evil", "a/b", ".hidden", "x\ny", "", "a" * 99, "frisket.toml"]
)
def test_a_new_file_has_a_plain_name_of_its_own(
    client: TestClient, folder: Path, config: str, name: str
) -> None:
    before = sorted(folder.rglob("*"))
    answer = client.post("/api/configs", json={"name": name, "text": PLAIN})
    assert answer.status_code == 422
    assert sorted(folder.rglob("*")) == before


def test_a_copy_is_a_configuration_of_the_folder(
    client: TestClient, folder: Path, config: str
) -> None:
    answer = client.post("/api/configs", json={"name": "second try", "text": PLAIN}).json()
    assert (folder / "second try.toml").read_text() == PLAIN
    assert answer["id"] in {each["id"] for each in client.get("/api/workspace").json()["configs"]}


def test_the_schema_has_the_meaning_of_every_field(client: TestClient) -> None:
    schema = client.get("/api/schema").json()
    sections = [
        re.sub(r".*/", "", entry.get("$ref", "")) for entry in schema["properties"].values()
    ]
    for name in filter(None, sections):
        for field, entry in schema["$defs"][name]["properties"].items():
            assert entry.get("description") or "$ref" in entry, (name, field)
