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
    document = model.model_json_schema()
    _open_shorthands(document)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Frisket configuration",
        **{key: value for key, value in document.items() if key != "title"},
    }


def text() -> str:
    """The schema as the shipped file holds it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _open_shorthands(document: dict[str, Any]) -> None:
    """What validators take besides: `masks` as a word, folder or table, `control`, `regions`."""
    masks = document["$defs"]["Data"]["properties"]["masks"]
    full = {"$ref": masks.pop("$ref")}
    masks["anyOf"] = [
        {"type": "string"},
        full,
        {"type": "object", "additionalProperties": {"type": "string"}},
    ]
    masks["default"] = "none"
    control = document["$defs"]["Data"]["properties"]["control"]
    control["anyOf"] = [{"type": "string"}, *control["anyOf"]]
    regions = document["properties"]["regions"]
    table = {key: regions.pop(key) for key in ("type", "additionalProperties")}
    named = {"type": "string", "enum": list(PRESETS)}
    regions["anyOf"] = [named, {**table, "properties": {"preset": named}}]
    regions["default"] = Config().region_weights


def reference(model: type[Config] = Config) -> str:
    """The reference page: one table a section with key, type, default and meaning."""
    document = schema(model)
    parts = [PAGE]
    for name, entry in document["properties"].items():
        title, inner = f"[{name}]", _model(entry, document)
        if entry.get("type") == "array":
            title, inner = f"[[{name}]]", _model(entry["items"], document)
        if inner is None:
            title = title if "object" in str(entry) else name
            parts.append(f"## `{title}`\n\n{_plain(entry.get('description', ''))}\n")
            parts.append(f"Type: {_cell(_type(entry, document))}. Default: {_default(entry)}.\n")
            continue
        parts += _section(title, inner, document)
        for deeper, its in inner["properties"].items():
            if below := _model(its, document):
                parts += _section(f"[{name}.{deeper}]", below, document)
            elif its.get("type") == "array" and _model(its.get("items", {}), document):
                parts.append(f"## `[[{name}.{deeper}]]`\n\nThe keys of `[[{deeper}]]`.\n")
    return "\n".join(parts)


def _section(title: str, model: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """Heading, meaning and table of one section."""
    required = model.get("required", [])
    rows = [
        f"| `{name}` | {_cell(_type(entry, document))} |"
        f" {'required' if name in required else _default(entry, of_section='$ref' in entry)} |"
        f" {_cell(_plain(entry.get('description', '')))} |"
        for name, entry in model["properties"].items()
    ]
    table = "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])
    return [f"## `{title}`\n", f"{_plain(model.get('description', ''))}\n", f"{table}\n"]


def _model(entry: dict[str, Any], document: dict[str, Any]) -> dict[str, Any] | None:
    """The section an entry refers to, None for a plain value."""
    for choice in (entry, *entry.get("anyOf", [])):
        if "$ref" in choice:
            section: dict[str, Any] = document["$defs"][choice["$ref"].rsplit("/", 1)[-1]]
            return section
    return None


WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "table",
}


def _type(entry: dict[str, Any], document: dict[str, Any]) -> str:
    """A type in words, with its range."""
    if "anyOf" in entry:
        choices = [choice for choice in entry["anyOf"] if choice.get("type") != "null"]
        return " or ".join(dict.fromkeys(_type(choice, document) for choice in choices))
    if "enum" in entry or "const" in entry:
        choices = entry.get("enum", [entry.get("const")])
        return ", ".join(f"`{choice}`" for choice in choices if choice != "")
    if "$ref" in entry:
        return "table"
    if entry.get("type") == "array":
        return _describe_list(entry, document)
    if isinstance(entry.get("additionalProperties"), dict):
        return f"table of {_type(entry['additionalProperties'], document)}"
    word = "path" if entry.get("format") == "path" else WORDS.get(str(entry.get("type")), "any")
    return word + _range(entry)


def _describe_list(entry: dict[str, Any], document: dict[str, Any]) -> str:
    if "prefixItems" in entry:
        inner = [_type(prefix, document) for prefix in entry["prefixItems"]]
        return f"list of {len(inner)} ({inner[0]})"
    return f"list of {_type(entry['items'], document)}"


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
        return "`{ " + ", ".join(f"{key} = {inner}" for key, inner in value.items()) + " }`"
    return f"`{json.dumps(value)}`"


def _plain(description: str) -> str:
    return " ".join(description.split())


def _cell(description: str) -> str:
    return description.replace("|", "\\|")
