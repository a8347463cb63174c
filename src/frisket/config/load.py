"""Reads a config file: TOML to the frozen tree, with errors that name file, line, value and fix."""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from frisket.config.checks.identity_tables import list_identity_problems
from frisket.config.error_messages import explain, or_all, problem
from frisket.config.label_map import with_legends
from frisket.config.presets.lay import plan_for
from frisket.config.provenance import (
    ConfigError,
    Key,
    Origin,
    Problem,
    join_key,
    lay_option,
    lines_of,
    override,
)
from frisket.config.tree import FAMILY, Config, Section
from frisket.config.variant_checks import optimizer_problems, variant_problems
from frisket.disk.untrusted import BadText, cut, parse_toml, read_text, show
from frisket.media.paths import expand_home

__all__ = [
    "ConfigError",
    "Origin",
    "check",
    "load",
    "read",
    "read_both",
    "read_layers",
    "read_request",
]


R = TypeVar("R", bound=Section)
TERM_PATHS = {  # options of loss terms that name files or folders
    "identity": ("embedder_source", "references", "detector_source"),
    "consistency": ("source",),
}


def load(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a TOML file, with `a.b=c` overrides laid over it.

    Relative paths, those of overrides too, are taken from the config file's folder. Raises
    ConfigError naming file, line, value and fix. Loads no torch; `check` looks at what does.
    """
    return read(path, overrides)[0]


def read(
    path: Path | str, overrides: Sequence[str] = (), *, text: str | None = None
) -> tuple[Config, Origin]:
    """As `load`, together with where every value was written (for `check`).

    `text` is what the file is about to hold, in place of what it holds; it need not be there then.
    """
    config, origin = read_layers(Path(path), overrides, text=text)
    return with_legends(config, origin), origin


def read_layers(
    path: Path | None,
    overrides: Sequence[str] = (),
    options: Mapping[Key, tuple[Any, str]] | None = None,
    *,
    model: type[Config] = Config,
    text: str | None = None,
) -> tuple[Config, Origin]:
    """Defaults, under a file (or none), under overrides, under options: each value with its text.

    Paths in options are taken from the reader's folder, all others from the file's. Raises
    ConfigError as `load` does; reads no legends. `text` takes the place of the file's content.
    """
    options = options or {}
    tree: dict[str, Any] = {}
    lines: dict[Key, int] = {}
    if path is not None:
        path = expand_home(path)
        text = _text(path) if text is None else text
        tree, lines = _parse(text, path), lines_of(text)
    overridden = {override(tree, text): text for text in overrides}
    _replace_length(tree, {**overridden, **options})
    for key, (value, _) in options.items():
        lay_option(tree, key, value)
    texts = {key: text for key, (_, text) in options.items()}
    origin = Origin(path, lines, overridden, texts, _list_preset(tree))
    try:
        config = model.model_validate(tree)
    except ValidationError as error:
        raise explain(error, tree, origin) from error
    return _resolve_sources(_resolve(config, origin), origin), origin


def read_request(
    model: type[R], typed: Mapping[Key, tuple[Any, str]], *, config: type[Config] = Config
) -> R:
    """A model of its own fields (`config` and `overrides` among them) and sections of the config.

    Raises ConfigError, which names the option, override or line of the file, the value and the fix.
    """
    return read_both(model, typed, config=config)[0]


def read_both(
    model: type[R], typed: Mapping[Key, tuple[Any, str]], *, config: type[Config] = Config
) -> tuple[R, Config, Origin]:
    """As `read_request`, with the whole config, what was typed in it, and where all was written."""
    sections = {name for name in model.model_fields if name in config.model_fields}
    inner = {key: value for key, value in typed.items() if key[0] in sections}
    tree: dict[str, Any] = {}
    for key, (value, _) in typed.items():
        if key[0] not in sections:
            lay_option(tree, key, value)
    read, origin = config(), Origin()
    if "config" in model.model_fields:
        path = tree.get("config_option") or tree.get("config", model.model_fields["config"].default)
        read, origin = read_layers(path, tree.get("overrides", ()), inner, model=config)
    values = tree | {name: getattr(read, name) for name in sections}
    try:
        return model.model_validate(values), read, origin
    except ValidationError as error:
        texts = Origin(options={key: text for key, (_, text) in typed.items()})
        raise explain(error, tree, texts) from error


def _list_preset(tree: dict[str, Any]) -> tuple[str, frozenset[Key]]:
    """The preset a parsed config names, and the keys it sets; one that cannot be sets none."""
    try:
        plan = plan_for(tree, FAMILY)
    except ValueError:
        plan = None
    if plan is None:
        return "", frozenset()
    return plan.name, frozenset(setting.key for setting in plan.settings)


def _replace_length(tree: dict[str, Any], changes: Collection[Key]) -> None:
    """Steps asked for in an override are instead of the file's epochs, which else decide."""
    run = tree.get("run")
    if ("run", "steps") in changes and ("run", "epochs") not in changes and isinstance(run, dict):
        run.pop("epochs", None)


def _text(path: Path) -> str:
    try:
        if path.is_dir():
            inside = sorted(file.name for file in path.glob("*.toml"))
            hint = f"write one with `frisket init {path}`"
            hint = cut(f"it holds {', '.join(inside)}") if inside else hint
            raise ConfigError(f"{path} is a folder, not a config file; {hint}")
        return read_text(path)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} does not exist; `frisket init FOLDER -o {path.name}` writes one for a folder"
            " of clips"
        ) from error
    except BadText as error:
        place = f" line {error.line}" if error.line else ""
        raise ConfigError(f"{path}{place}: {error.message}") from error
    except OSError as error:
        raise ConfigError(f"{cut(str(path))} cannot be read: {error.strerror}") from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return parse_toml(text)
    except BadText as error:
        if not error.line:
            message = f"not valid TOML: {error.message}"
            raise ConfigError(f"{path.name}: {message}", [Problem((), message)]) from error
        line = cut(text.split("\n")[error.line - 1].strip(), 120)
        message = f"not valid TOML: {error.message}{_remedy(line)}"
        raise ConfigError(
            f"{path.name} line {error.line}, column {error.column}: {message}\n    {line}",
            [Problem((), message, error.line)],
        ) from error


def _remedy(line: str) -> str:
    """What is usually wrong with such a line."""
    value = line.partition("=")[2].strip()
    if value.startswith("{") and not value.endswith("}"):
        return "; an inline { table } stands on one line"
    if "\\" in value:
        return "; write paths with / or in 'single quotes'"
    if re.match(r"(True|False|None)\b", value):
        return "; TOML writes true and false, and leaves out what is not set"
    return "; text stands in quotes" if re.match(r"[A-Za-z./~]", value) else ""


def _resolve(value: Any, origin: Origin, key: Key = ()) -> Any:
    """The tree with every relative path taken from the config file's folder."""
    if isinstance(value, Path):
        return value if origin.is_option(key) else _absolute(value, origin, key)
    if isinstance(value, Section):
        pairs = {name: getattr(value, name) for name in type(value).model_fields}
        moved = {name: _resolve(old, origin, (*key, name)) for name, old in pairs.items()}
        changed = {name: new for name, new in moved.items() if new != pairs[name]}
        return value.model_copy(update=changed) if changed else value
    if isinstance(value, tuple):
        return tuple(_resolve(inner, origin, (*key, n)) for n, inner in enumerate(value))
    if isinstance(value, dict):
        return {name: _resolve(inner, origin, (*key, name)) for name, inner in value.items()}
    return value


def _absolute(path: Path, origin: Origin, key: Key) -> Path:
    if any(ord(letter) < ord(" ") for letter in str(path)):
        raise origin.refuse(
            key,
            f"`{join_key(key)}` = {show(str(path))} holds a control character, for a backslash"
            " begins an escape in TOML; write paths with / or in 'single quotes'",
        )
    joined = origin.folder / expand_home(path)
    return Path(os.path.normpath(joined)) if ".." in joined.parts else joined


def _resolve_sources(config: Config, origin: Origin) -> Config:
    """`model.source` and `maskgen.sources` name hub ids or paths, some loss terms paths."""
    changed: dict[str, Any] = {}
    source = _resolve_source(config.model.source, origin, ("model", "source"))
    if source != config.model.source:
        changed["model"] = config.model.model_copy(update={"source": source})
    sources = {
        name: _resolve_source(source, origin, ("maskgen", "sources", name))
        for name, source in config.maskgen.sources.items()
    }
    if sources != config.maskgen.sources:
        changed["maskgen"] = config.maskgen.model_copy(update={"sources": sources})
    if tables := _resolve_terms(config, origin):
        changed["losses"] = config.losses.model_copy(update=tables)
    return config.model_copy(update=changed) if changed else config


def _resolve_terms(config: Config, origin: Origin) -> dict[str, dict[str, Any]]:
    """The tables of loss terms whose paths change, with these resolved."""
    changed: dict[str, dict[str, Any]] = {}
    for name, options in TERM_PATHS.items():
        section = getattr(config.losses, name)
        if not isinstance(section, dict):
            continue
        table = {
            option: _resolve_source(value, origin, ("losses", name, option))
            if option in options and isinstance(value, str)
            else value
            for option, value in section.items()
        }
        if table != section:
            changed[name] = table
    return changed


def _resolve_source(source: str, origin: Origin, key: Key) -> str:
    """A path where it looks like one or is there, else the hub id it is."""
    if not source or origin.is_option(key):
        return source
    path = _absolute(Path(source), origin, key)
    return str(path) if source.startswith((".", "/", "~")) or path.exists() else source


def check(config: Config, origin: Origin | None = None) -> None:
    """Look at what the shelves know: family, variant, loss terms and their options.

    Raises ConfigError naming the nearest thing there is. Imports the family (and so torch).
    """
    origin = origin or Origin()
    problems = (
        *_model_problems(config),
        *_term_problems(config),
        *_compat_problems(config),
        *_maskgen_problems(config),
        *list_identity_problems(config),
        *optimizer_problems(config),
    )
    if problems:
        raise origin.refuse_all(problems)


def _model_problems(config: Config) -> Iterator[tuple[Key, str]]:
    from frisket.families.base import FAMILIES  # noqa: PLC0415 - torch, only when asked for

    family, variant = config.model.family, config.model.variant
    if family not in (known := FAMILIES.names()):
        yield ("model", "family"), f"no family is named {family!r}{or_all(family, known)}"
        return
    variants = list(FAMILIES.load(family).variants) if variant else [""]
    if variant not in variants:
        yield (
            ("model", "variant"),
            f"{family} has no variant {variant!r}{or_all(variant, variants)}",
        )
        return
    yield from variant_problems(config, FAMILIES.load(family))


def _term_problems(config: Config) -> Iterator[tuple[Key, str]]:
    from frisket.losses.base import TERMS  # noqa: PLC0415 - torch, only when asked for

    known = TERMS.names()
    for name, table in config.losses.terms.items():
        if name not in known:
            choices = [*known, "normalise", "beta", "compat"]
            yield ("losses", name), f"no loss term is named {name!r}{or_all(name, choices)}"
            continue
        yield from _option_problems(name, table, TERMS.load(name))


def _compat_problems(config: Config) -> Iterator[tuple[Key, str]]:
    from frisket.config.compat import compat_problems  # noqa: PLC0415 - torch, only when asked for

    yield from compat_problems(config)


def _maskgen_problems(config: Config) -> Iterator[tuple[Key, str]]:
    """Backends that are not there, though nothing but `frisket masks` asks for them."""
    if config.maskgen == type(config.maskgen)():
        return
    from frisket.maskgen.base import BACKENDS  # noqa: PLC0415 - torch, only when asked for
    from frisket.maskgen.pipeline import COMPOSITIONS  # noqa: PLC0415 - the same

    known = [*BACKENDS.names(), *COMPOSITIONS]
    for number, name in enumerate(config.maskgen.backends):
        if name not in known:
            key = ("maskgen", "backends", number)
            yield key, f"no mask backend is named {name!r}{or_all(name, known)}"


def _option_problems(name: str, table: dict[str, Any], term: Any) -> Iterator[tuple[Key, str]]:
    """What is wrong with a term's table; the term is a frozen dataclass, its fields the options."""
    strength, settings = table["strength"], {**table}
    del settings["strength"]
    if isinstance(strength, bool) or not isinstance(strength, int | float):
        message = f"`losses.{name}.strength` should be a number, got {show(strength)}"
        yield ("losses", name, "strength"), message
    elif strength < 0:
        message = f"`losses.{name}.strength` should be 0 or more, got {strength:g}"
        yield ("losses", name, "strength"), message
    options = [field.name for field in fields(term)]
    for option in settings:
        if option not in options:
            hint = or_all(option, ["strength", *options])
            yield ("losses", name, option), f"{name} has no option {option!r}{hint}"
            return
    try:
        TypeAdapter(term).validate_python(settings)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        key: Key = ("losses", name, *detail["loc"][:1])
        yield key, problem(detail, key)
