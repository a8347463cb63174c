"""Methods on a command line: options that count by method, and the tables they come to."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ValidationError

from frisket.config.command_options import option
from frisket.config.data import Section
from frisket.config.error_messages import explain
from frisket.config.provenance import ConfigError, Key, Origin
from frisket.config.tree import Config
from frisket.disk.untrusted import BadText, cut, parse_toml
from frisket.media.paths import expand_home

UNSET = "-"  # in place of a value: what is taken without one


class MethodOptions(Section):
    """The same on a command line, where each option counts by method."""

    panel: ClassVar[str] = "Keeping a face, person or thing"

    methods: Annotated[tuple[str, ...], option("--method")] = ()
    """A method (`frisket methods`), in place of the [[identity]] tables."""
    sources: Annotated[tuple[str, ...], option("--method-source", metavar="PATH")] = ()
    """Weights of each --method in turn; one is for all."""
    faces: Annotated[tuple[str, ...], option("--face", metavar="[METHOD=]FILE")] = ()
    """Picture of the face, person or thing. Several of one method are of one person; of several
    methods they count in turn, or by name (a second instantid is `instantid-2`)."""
    likes: Annotated[tuple[str, ...], option("--like", metavar="FILE")] = ()
    """Picture of who is meant where a --face shows several people, of each --method in turn; by
    default the largest face."""
    poses: Annotated[tuple[str, ...], option("--pose", metavar="FILE")] = ()
    """Picture whose face is where the result's shall be, of each --method in turn."""
    encoders: Annotated[tuple[str, ...], option("--encoder", metavar="FOLDER")] = ()
    """Image encoder of each --method in turn; one is for all."""
    embedders: Annotated[tuple[str, ...], option("--embedder")] = ()
    """Network that embeds faces, of each --method in turn; one is for all."""
    embedder_sources: Annotated[tuple[str, ...], option("--embedder-source", metavar="PATH")] = ()
    """Its file or folder, in turn; one is for all."""
    detectors: Annotated[tuple[str, ...], option("--detector")] = ()
    """What finds faces, in turn; one is for all. By default what goes with the embedder."""
    detector_sources: Annotated[tuple[str, ...], option("--detector-source", metavar="PATH")] = ()
    """Its file or folder, in turn; one is for all. By default beside the embedder's."""
    scales: Annotated[tuple[float, ...], option("--method-scale")] = ()
    """Strength of each --method in turn; 1."""
    masks: Annotated[tuple[str, ...], option("--method-mask", metavar="FILE")] = ()
    """Mask of each --method in turn: it acts there alone; `-` is everywhere."""
    strict: Annotated[bool, option("--method-strict")] = False
    """Outside --method-mask every prediction is the one without the method: twice the work."""
    options: Annotated[
        tuple[str, ...], option("--method-option", metavar="[METHOD.]KEY=VALUE")
    ] = ()
    """An option of a method's own, such as identity_net=0.6."""


# Options of which one value is for every method; of the others each has its own.
SHARED = (
    *("sources", "encoders", "embedders", "embedder_sources"),
    *("detectors", "detector_sources"),
)
FIELDS = {  # of MethodOptions, in turn, to the key of a table
    "sources": "source",
    "likes": "like",
    "poses": "pose",
    "encoders": "encoder",
    "embedders": "embedder",
    "embedder_sources": "embedder_source",
    "detectors": "detector",
    "detector_sources": "detector_source",
    "scales": "scale",
    "masks": "mask",
}


def label_methods(names: Sequence[str]) -> tuple[str, ...]:
    """What each method of a call is called: its name; a second of one name is `name-2`."""
    labels: list[str] = []
    for index, name in enumerate(names):
        count = list(names[: index + 1]).count(name)
        labels.append(name if count == 1 else f"{name}-{count}")
    return tuple(labels)


def pair_methods(typed: MethodOptions) -> tuple[dict[str, Any], ...]:
    """The `[[identity]]` tables that options on a command line come to, not yet checked.

    ConfigError for options without --method, for more of one than there are methods, and for faces
    that cannot be told whose they are.
    """
    if not typed.methods:
        _refuse_without_method(typed)
        return ()
    labels = label_methods(typed.methods)
    tables = [{"method": name, **fields} for name, fields in _pair_fields(typed)]
    for table, faces in zip(tables, _share_faces(labels, typed.faces), strict=True):
        table["faces"] = tuple(map(_read_path, faces))
    for table, options in zip(tables, _share_options(labels, typed.options), strict=True):
        table["options"] = options
    # A method that is everywhere has nothing outside; where all are, `strict` itself is wrong.
    has_masks = any("mask" in table for table in tables)
    for table in tables:
        table["strict"] = typed.strict and ("mask" in table or not has_masks)
    return tuple(tables)


def _pair_fields(typed: MethodOptions) -> list[tuple[str, dict[str, Any]]]:
    """Each method with the values that were typed for it, by the fields of its table."""
    pairs: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in typed.methods]
    for name, key in FIELDS.items():
        for (_, fields), value in zip(pairs, _spread(typed, name, len(pairs)), strict=False):
            if value != UNSET:
                fields[key] = _read_path(value) if _is_path(key) else value
    return pairs


def lay_methods(typed: MethodOptions, config: Config, origin: Origin) -> tuple[Config, Origin]:
    """The config with the methods that were typed in place of its tables, and where they stood.

    As they are where none was typed. ConfigError as `pair_methods`, and for values that a table
    cannot have, by the option.
    """
    tables = pair_methods(typed)
    if not tables:
        return config, origin
    texts: dict[Key, str] = {
        ("identity", number): f"--method {table['method']}" for number, table in enumerate(tables)
    }
    typed_origin = replace(origin, options={**origin.options, **texts})
    tree = {"identity": list(tables)}
    try:
        checked = Config.model_validate(tree)
    except ValidationError as error:
        raise explain(error, tree, typed_origin) from error
    return config.model_copy(update={"identity": checked.identity}), typed_origin


def _is_path(key: str) -> bool:
    return key not in ("scale", "embedder", "detector")


def _read_path(value: str | Path) -> Path:
    return expand_home(Path(value))


def _refuse_without_method(typed: MethodOptions) -> None:
    """ConfigError naming the first option that has a method's value and no method."""
    for name, info in MethodOptions.model_fields.items():
        if getattr(typed, name):
            flag = next(data.names[0] for data in info.metadata if hasattr(data, "names"))
            raise ConfigError(
                f"generate: {flag} is of a method, and none is named: add --method NAME (`frisket"
                " methods` lists them)"
            )


def _spread(typed: MethodOptions, name: str, count: int) -> tuple[Any, ...]:
    """The values of one option, one a method where one is for all."""
    values: tuple[Any, ...] = getattr(typed, name)
    if len(values) > count:
        flag = next(
            data.names[0]
            for data in MethodOptions.model_fields[name].metadata
            if hasattr(data, "names")
        )
        raise ConfigError(f"generate: {len(values)} {flag} for {count} --method")
    return values * count if name in SHARED and len(values) == 1 else values


def _share_faces(labels: Sequence[str], faces: Sequence[str]) -> list[list[str]]:
    """The face pictures of each method; ConfigError where it is not said whose they are."""
    shares: dict[str, list[str]] = {label: [] for label in labels}
    in_turn: list[str] = []
    for face in faces:
        label, equals, file = face.partition("=")
        if equals and label in shares:
            shares[label].append(file)
        else:
            in_turn.append(face)
    if len(labels) == 1:
        shares[labels[0]].extend(in_turn)
    elif len(in_turn) == len(labels) == len(faces):
        shares = {label: [file] for label, file in zip(labels, in_turn, strict=True)}
    elif in_turn:
        raise ConfigError(
            f"generate: {len(in_turn)} --face without a name for {len(labels)} --method: give one"
            f" each, in turn, or say whose each is, as in --face {labels[0]}={in_turn[0]}"
        )
    lacking = next((label for label, files in shares.items() if not files), None)
    if lacking is not None:
        raise ConfigError(
            f"generate: {lacking} is shown no picture: give --face FILE (of several methods"
            f" --face {lacking}=FILE)"
        )
    return list(shares.values())


def _share_options(labels: Sequence[str], texts: Sequence[str]) -> list[dict[str, Any]]:
    """The options of each method, values read as TOML (a bare word is text)."""
    shares: dict[str, dict[str, Any]] = {label: {} for label in labels}
    for text in texts:
        name, equals, value = text.partition("=")
        label, dot, key = name.rpartition(".")
        if not equals or not key:
            raise ConfigError(
                f"generate: --method-option {cut(text, 120)}: write KEY=VALUE, or METHOD.KEY=VALUE"
            )
        if dot and label not in shares:
            raise ConfigError(
                f"generate: --method-option {cut(text, 120)}: there is no --method {label}; there"
                f" are {', '.join(labels)}"
            )
        if not dot and len(labels) > 1:
            raise ConfigError(
                f"generate: --method-option {cut(text, 120)}: say of which --method, as in"
                f" {labels[0]}.{cut(text, 120)}"
            )
        shares[label if dot else labels[0]][key] = _read_value(value)
    return list(shares.values())


def _read_value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}")["value"]
    except BadText:
        return text
