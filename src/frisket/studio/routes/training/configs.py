"""Configuration files: read, checked as they are typed, changed key by key, saved by revision."""

import json
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, JsonValue

from frisket.config.load import load
from frisket.config.schema import SHIPPED
from frisket.disk.toml_lines import Key
from frisket.disk.untrusted import CONFIG, BadText, parse_toml
from frisket.studio.configs.check import check_text
from frisket.studio.configs.compare import compare_configs
from frisket.studio.configs.edit import CannotEdit, TreeChange, apply_changes
from frisket.studio.configs.files import (
    ChangedMeanwhile,
    create_config,
    find_config,
    read_config,
    save_config,
)
from frisket.studio.runs.index import open_index
from frisket.studio.state import OpenStudio
from frisket.studio.workspace import make_id

router = APIRouter()
ConfigText = Annotated[str, Field(max_length=CONFIG)]
KeyPart = Annotated[str, Field(max_length=200)] | Annotated[int, Field(ge=0, le=10_000)]
KeyPath = Annotated[list[KeyPart], Field(min_length=1, max_length=12)]
NEW = "new.toml"  # the name of a text that is no file yet, in what is said about it


class TextRequest(BaseModel):
    """A text that a configuration is about to hold."""

    text: ConfigText


class SaveRequest(TextRequest):
    """A text to write over the revision that it was made of."""

    revision: Annotated[str, Field(max_length=64)]


class CreateRequest(TextRequest):
    """A text, and the name of the file that is to hold it."""

    name: Annotated[str, Field(min_length=1, max_length=100)]


class ChangeRequest(BaseModel):
    """One change; `maybe` leaves a key alone that is not there to be taken out."""

    key: KeyPath
    value: JsonValue = None
    remove: bool = False
    to: Annotated[list[KeyPart], Field(max_length=12)] = []
    maybe: bool = False


class EditRequest(TextRequest):
    """A text, and what to change in it."""

    changes: Annotated[list[ChangeRequest], Field(max_length=500)]


class CompareRequest(TextRequest):
    """A text, and the run it is held against; empty: the file as it is saved."""

    run: Annotated[str, Field(pattern="^([0-9a-f]{18})?$")] = ""


@router.get("/schema")
def read_schema() -> dict[str, Any]:
    """Fields, defaults, bounds and meanings of a configuration, as JSON schema."""
    schema: dict[str, Any] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return schema


@router.post("/configs/check")
def check_new(request: TextRequest, studio: OpenStudio) -> dict[str, Any]:
    """What is wrong with a text that is no file yet."""
    return check_text(request.text, studio.root / NEW).describe()


@router.post("/configs")
def create(request: CreateRequest, studio: OpenStudio) -> dict[str, Any]:
    """Write a new file into the opened folder."""
    _refuse_other_text(request.text)
    path = create_config(studio.root, request.name, request.text)
    return _describe(path)


@router.get("/configs/{config_id}")
def read(config_id: str, studio: OpenStudio) -> dict[str, Any]:
    """A file with its revision, and what is wrong with it."""
    return _describe(find_config(studio.root, config_id))


@router.put("/configs/{config_id}")
def save(config_id: str, request: SaveRequest, studio: OpenStudio) -> dict[str, Any]:
    """Write a text over the revision it was made of; 409 with what is there now, if it is not."""
    path = find_config(studio.root, config_id)
    _refuse_other_text(request.text)
    try:
        revision = save_config(path, request.text, request.revision)
    except ChangedMeanwhile as error:
        their_text = {"text": error.text, "revision": error.revision}
        raise HTTPException(409, {"error": str(error), "theirs": their_text}) from error
    return {"revision": revision, **check_text(request.text, path).describe()}


@router.post("/configs/{config_id}/check")
def check(config_id: str, request: TextRequest, studio: OpenStudio) -> dict[str, Any]:
    """What is wrong with a text, as the command line says it; nothing is written."""
    return check_text(request.text, find_config(studio.root, config_id)).describe()


@router.post("/configs/{config_id}/edit")
def edit(config_id: str, request: EditRequest, studio: OpenStudio) -> dict[str, Any]:
    """The text with some keys changed, comments kept, and what is wrong with it then."""
    path = find_config(studio.root, config_id)
    text = request.text
    for change in request.changes:
        key: Key = tuple(change.key)
        if change.maybe and not _has(text, key):
            continue
        tree_change = TreeChange(key, change.value, change.remove, tuple(change.to))
        text = apply_changes(text, [tree_change])
    return {"text": text, **check_text(text, path).describe()}


@router.post("/configs/{config_id}/compare")
def compare(config_id: str, request: CompareRequest, studio: OpenStudio) -> dict[str, Any]:
    """The keys in which a text differs from its saved file, or from what a run was trained with."""
    path = find_config(studio.root, config_id)
    after = check_text(request.text, path).config
    if request.run:
        run = open_index(studio.workspace).get(request.run)
        before = load(run.folder / "trained.toml")
    else:
        saved = check_text(read_config(path)[0], path)
        if saved.config is None:
            raise CannotEdit(f"{path.name}: the saved file is no configuration to compare with")
        before = saved.config
    if after is None:
        raise CannotEdit("mend what is wrong in the text first: it is no configuration yet")
    return {"changes": compare_configs(before, after)}


def _describe(path: Path) -> dict[str, Any]:
    text, revision = read_config(path)
    shared = {"id": make_id("config", path.name), "name": path.name}
    return {**shared, "text": text, "revision": revision, **check_text(text, path).describe()}


def _refuse_other_text(text: str) -> None:
    """What is no TOML is not written: no command could read it, and no page list it."""
    try:
        parse_toml(text)
    except BadText as error:
        place = f"line {error.line}: " if error.line else ""
        raise CannotEdit(f"{place}not valid TOML, so it is not saved: {error.message}") from error


def _has(text: str, key: Key) -> bool:
    try:
        tree: Any = parse_toml(text)
        for part in key:
            tree = tree[part]
    except (BadText, LookupError, TypeError):
        return False
    return True
