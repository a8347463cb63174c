"""The configuration described for others: JSON schema for editors, a reference page for readers."""

import json
from pathlib import Path
from typing import Any

from frisket.config.data import PRESETS
from frisket.config.tree import Config

SHIPPED = Path(__file__).with_name("config.schema.json")
PAGE = """# Configuration reference

Generated from `src/frisket/config/tree.py` by `make docs`; do not edit.

A Frisket project is one TOML file. Every key has a default, so a file holds only what differs;
unknown keys are refused with the nearest known one. Relative paths start at the file's own folder.
Any key can be set from the command line: `--set lora.rank=8`, `--set data.0.clips=other`.
"""


def schema(model: type[Config] = Config) -> dict[str, Any]:
    """JSON schema (draft 2020-12) of the configuration, with the shorthands TOML files use."""
    made = model.model_json_schema()
    _open_shorthands(made)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Frisket configuration",
        **{key: value for key, value in made.items() if key != "title"},
    }


def text() -> str:
    """The schema as the shipped file holds it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _open_shorthands(made: dict[str, Any]) -> None:
    """What validators take besides: `masks` as a word, folder or table, `regions` by preset."""
    masks = made["$defs"]["Data"]["properties"]["masks"]
    full = {"$ref": masks.pop("$ref")}
    masks["anyOf"] = [
        {"type": "string"},
        full,
        {"type": "object", "additionalProperties": {"type": "string"}},
    ]
    masks["default"] = "none"
    regions = made["properties"]["regions"]
    table = {key: regions.pop(key) for key in ("type", "additionalProperties")}
    named = {"type": "string", "enum": list(PRESETS)}
    regions["anyOf"] = [named, {**table, "properties": {"preset": named}}]
    regions["default"] = Config().regions


def reference(model: type[Config] = Config) -> str:
    """The reference page: one table a section with key, type, default and meaning."""
    made = schema(model)
    parts = [PAGE]
    for name, entry in made["properties"].items():
        title, inner = f"[{name}]", _model(entry, made)
        if entry.get("type") == "array":
            title, inner = f"[[{name}]]", _model(entry["items"], made)
        if inner is None:
            parts.append(f"## `{title}`\n\n{_plain(entry.get('description', ''))}\n")
            parts.append(f"Type: {_cell(_type(entry, made))}. Default: {_default(entry)}.\n")
            continue
        parts += _section(title, inner, made)
        for deeper, its in inner["properties"].items():
            if below := _model(its, made):
                parts += _section(f"[{name}.{deeper}]", below, made)
            elif its.get("type") == "array" and _model(its.get("items", {}), made):
                parts.append(f"## `[[{name}.{deeper}]]`\n\nThe keys of `[[{deeper}]]`.\n")
    return "\n".join(parts)


def _section(title: str, model: dict[str, Any], made: dict[str, Any]) -> list[str]:
    """Heading, meaning and table of one section."""
    required = model.get("required", [])
    rows = [
        f"| `{name}` | {_cell(_type(entry, made))} |"
        f" {'required' if name in required else _default(entry, of_section='$ref' in entry)} |"
        f" {_cell(_plain(entry.get('description', '')))} |"
        for name, entry in model["properties"].items()
    ]
    table = "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])
    return [f"## `{title}`\n", f"{_plain(model.get('description', ''))}\n", f"{table}\n"]


def _model(entry: dict[str, Any], made: dict[str, Any]) -> dict[str, Any] | None:
    """The section an entry refers to, None for a plain value."""
    for choice in (entry, *entry.get("anyOf", [])):
        if "$ref" in choice:
            found: dict[str, Any] = made["$defs"][choice["$ref"].rsplit("/", 1)[-1]]
            return found
    return None


WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "table",
}


def _type(entry: dict[str, Any], made: dict[str, Any]) -> str:
    """A type in words, with its range."""
    if "anyOf" in entry:
        choices = [each for each in entry["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(_type(each, made) for each in choices))
    if "enum" in entry or "const" in entry:
        choices = entry.get("enum", [entry.get("const")])
        return ", ".join(f"`{each}`" for each in choices if each != "")
    if "$ref" in entry:
        return "table"
    if entry.get("type") == "array":
        return _listed(entry, made)
    if isinstance(entry.get("additionalProperties"), dict):
        return f"table of {_type(entry['additionalProperties'], made)}"
    word = "path" if entry.get("format") == "path" else WORDS.get(str(entry.get("type")), "any")
    return word + _range(entry)


def _listed(entry: dict[str, Any], made: dict[str, Any]) -> str:
    if "prefixItems" in entry:
        inner = [_type(each, made) for each in entry["prefixItems"]]
        return f"list of {len(inner)} ({inner[0]})"
    return f"list of {_type(entry['items'], made)}"


def _range(entry: dict[str, Any]) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {entry[key]:g}" for key, sign in signs.items() if key in entry]
    return f" {', '.join(limits)}" if limits else ""


def _default(entry: dict[str, Any], *, of_section: bool = False) -> str:
    value = entry.get("default")
    if of_section:
        return "its own"
    if value is None or value in ("", [], {}):
        return "empty"
    if isinstance(value, dict):
        return "`{ " + ", ".join(f"{key} = {each}" for key, each in value.items()) + " }`"
    return f"`{json.dumps(value)}`"


def _plain(said: str) -> str:
    return " ".join(said.split())


def _cell(said: str) -> str:
    return said.replace("|", "\\|")
