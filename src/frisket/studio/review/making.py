"""The call of `frisket masks make` that the page's form stands for."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from frisket.config.load import load
from frisket.config.maskgen import MaskGeneration
from frisket.studio.sets.plan import SetPlan

# Fields that hold paths, or load what others wrote: those of the configuration stand, the page's
# word is never a path.
CLOSED = frozenset(
    {
        *("output", "beside", "brush", "sources", "devices"),
        *("prompts.captions", "prompts.rules", "prompts.captioner", "people.like"),
        *("attention",),
    }
)


class BadMaking(ValueError):
    """Options of the form that cannot be; the message names the field and what it should be."""


def read_options(plan: SetPlan) -> MaskGeneration:
    """What the configuration of a set says in [maskgen]; the defaults where there is none."""
    config = plan.clip_set.config
    return MaskGeneration() if config is None or plan.fault else load(config).maskgen


def check_options(plan: SetPlan, changes: Mapping[str, Any]) -> MaskGeneration:
    """The options with the form's changes laid over those of the configuration. BadMaking."""
    tree = read_options(plan).model_dump(mode="json")
    for name, value in changes.items():
        if name in CLOSED or name.partition(".")[0] in CLOSED:
            raise BadMaking(f"{name}: is set in the configuration, not on this page")
        section, _, key = name.rpartition(".")
        table: Any = tree
        for part in filter(None, section.split(".")):
            table = table.get(part)
            if not isinstance(table, dict):
                raise BadMaking(f"{name}: no such option")
        if key not in table and section != "thresholds":
            raise BadMaking(f"{name}: no such option")
        table[key] = value
    try:
        return MaskGeneration.model_validate(tree)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise BadMaking(f"{place}: {fault['msg']}") from error


@dataclass(frozen=True, slots=True)
class MakingCall:
    """One call of `frisket masks make`, for a job or for its dry run."""

    folder: Path
    output: Path | None
    beside: bool
    config: Path | None
    overrides: tuple[str, ...]
    only: tuple[str, ...] = ()
    again: bool = False
    overwrite: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)  # backend to its weights

    def spell(self, device: str | None = None) -> list[str]:
        """The words behind `frisket`."""
        words = ["masks", "make", str(self.folder)]
        words += [f"--output={self.output}"] if self.output is not None else []
        words += ["--beside"] if self.beside else []
        words += [f"--config={self.config}"] if self.config is not None else []
        words += [f"--set={override}" for override in self.overrides]
        words += [f"--device={device}"] if device else []
        words += [f"--source={name}={path}" for name, path in self.sources.items()]
        words += [f"--only={name}" for name in self.only]
        words += ["--again"] if self.again else []
        words += ["--overwrite"] if self.overwrite else []
        return words

    def describe(self) -> dict[str, Any]:
        """The same for `frisket serve`."""
        return {
            "folder": str(self.folder),
            "output": None if self.output is None else str(self.output),
            "beside": self.beside,
            "config": None if self.config is None else str(self.config),
            "overrides": list(self.overrides),
            "only": list(self.only),
            "again": self.again,
        }


def build_call(
    plan: SetPlan,
    changes: Mapping[str, Any],
    *,
    only: Sequence[str] = (),
    again: bool = False,
    overwrite: bool = False,
    sources: Mapping[str, str] | None = None,
) -> MakingCall:
    """The call that makes the masks of a set, or those of some clips `only`. BadMaking."""
    check_options(plan, changes)
    config = None if plan.fault else plan.clip_set.config
    overrides = tuple(f"maskgen.{name}={spell_value(value)}" for name, value in changes.items())
    output = _choose_folder(plan)
    return MakingCall(
        plan.clip_set.clips,
        output,
        plan.source == "sidecar",
        config,
        overrides,
        tuple(only),
        again,
        overwrite,
        sources or {},
    )


def _choose_folder(plan: SetPlan) -> Path | None:
    """Where the masks go: where this set reads them from. None for beside the clips."""
    if plan.source == "sidecar":
        return None
    folder = plan.folders.get("") if plan.source == "folder" else None
    if folder is not None:
        if plan.levels or plan.invert:
            raise BadMaking(
                f"{folder}: holds grey masks, and label maps would be written among them; name"
                " another mask folder in the configuration"
            )
        return folder
    if plan.source in ("regions", "listed", "alpha"):
        raise BadMaking(
            f"this set takes its masks from {plan.source}, and `frisket masks` writes label maps:"
            ' name one folder for them in the configuration, masks = "masks"'
        )
    return plan.clip_set.masks


def spell_value(value: Any) -> str:
    """A value as TOML, for `--set`."""
    if isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(spell_value, value))}]"
    raise BadMaking(f"{value!r}: give a number, a text, yes or no, or a list of them")


def describe_form(plan: SetPlan) -> dict[str, Any]:
    """The fields of the form: section, kind, bounds, choices, text, and what the config says."""
    options = read_options(plan)
    schema = MaskGeneration.model_json_schema()
    fields = list(_walk(schema, schema, options.model_dump(mode="json"), ""))
    return {"fields": [field for field in fields if not _is_closed(field["name"])]}


def _is_closed(name: str) -> bool:
    return name in CLOSED or name.partition(".")[0] in CLOSED


def _walk(
    schema: Mapping[str, Any], node: Mapping[str, Any], values: Mapping[str, Any], prefix: str
) -> Iterator[dict[str, Any]]:
    for name, entry in node["properties"].items():
        at = f"{prefix}{name}"
        inner = schema["$defs"].get(str(entry.get("$ref", "")).rpartition("/")[2])
        if inner is not None:
            yield from _walk(schema, inner, values[name], f"{at}.")
            continue
        shape = next((s for s in entry.get("anyOf", ()) if s.get("type") != "null"), entry)
        kinds = {"array": "list", "object": "table"}
        yield {
            "name": at,
            "kind": "choice" if "enum" in shape else kinds.get(shape["type"], shape["type"]),
            "choices": shape.get("enum", []),
            "least": shape.get("minimum", shape.get("exclusiveMinimum")),
            "most": shape.get("maximum", shape.get("exclusiveMaximum")),
            "text": " ".join(str(entry.get("description", "")).split()),
            "value": values[name],
            "default": entry.get("default"),
        }


def name_outputs(plan: SetPlan) -> dict[str, str]:
    """What the job writes, for its record."""
    folder: Path | None = plan.folders.get("") or plan.clip_set.masks
    return {} if folder is None else {"masks": str(folder)}
