"""Options of a command, made of the fields of a model that is imported when they are needed."""

import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frisket.cli.options import Command
from frisket.config.command_options import CommandOption

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

PLAIN_TYPES = (str, int, float, bool, Path)  # what Typer reads from a word
TypedOptions = dict[
    tuple[str | int, ...], tuple[Any, str]
]  # by field: as a file holds it, as typed ("--cut 0.4")


@dataclass(frozen=True, slots=True)
class ModelOption:
    """A field of a model, or of a section within it, as an option."""

    key: tuple[str, ...]  # its place in the model: ("maskgen", "cleanup", "grow")
    info: "FieldInfo"
    typed: CommandOption
    panel: str = ""

    @property
    def name(self) -> str:
        """The name its value is handed over by."""
        return "_".join(self.key)

    def write(self, value: Any) -> str:
        """A value as it was typed, by the option's long name: `--cut 0.4`, `--soft`."""
        on, _, off = self.names[0].partition("/")
        flag = self.key[-1].upper() if self.typed.argument else on
        if isinstance(value, bool):
            return on if value else off
        values = value if isinstance(value, list) else [value]
        words = (" ".join(map(str, word)) if isinstance(word, tuple) else word for word in values)
        return " ".join(f"{flag} {word}" for word in words)

    @property
    def names(self) -> tuple[str, ...]:
        """All names it may be typed by."""
        return self.typed.names or (f"--{self.key[-1].replace('_', '-')}",)


@dataclass(frozen=True, slots=True)
class FieldType:
    """What an annotation comes to on a command line: one type, many values or one, and bounds."""

    kind: Any = str
    many: bool = False
    optional: bool = False
    bounds: Mapping[str, int | float] = field(default_factory=dict)


def list_options(model: "type[BaseModel]") -> list[ModelOption]:
    """The options of all fields, those of sections where their section stands."""
    return list(_walk(model, ()))


def _walk(
    model: "type[BaseModel]", key: tuple[str, ...], field_names: Collection[str] = ()
) -> Iterator[ModelOption]:
    panel = str(getattr(model, "panel", ""))
    for name, info in model.model_fields.items():
        if field_names and name not in field_names:
            continue
        typed = next((data for data in info.metadata if isinstance(data, CommandOption)), None)
        typed = typed or CommandOption()
        if _is_section(info.annotation):
            inner = typing.cast("type[BaseModel]", info.annotation)
            yield from _walk(inner, (*key, name), typed.fields)
        else:
            yield ModelOption((*key, name), info, typed, typed.panel or panel)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and hasattr(annotation, "model_fields")


def read_type(info: "FieldInfo", typed: CommandOption) -> FieldType:
    """What is typed for a field; TypeError for a field that a command line has no form for."""
    kind, bounds, optional = info.annotation, _read_bounds(info.metadata), False
    while typing.get_origin(kind) in (Annotated, typing.Union, types.UnionType):
        first, *rest = typing.get_args(kind)
        if typing.get_origin(kind) is Annotated:
            kind, bounds = first, bounds | _read_bounds(rest)
            continue
        choices = [choice for choice in (first, *rest) if choice is not type(None)]
        if len(choices) > 1:
            raise TypeError(f"{kind} is no one type: give the field a `read`")
        kind, optional = choices[0], True
    if typed.read is not None:
        many = typing.get_origin(kind) is dict
        return FieldType(str, many=many, optional=True)
    if typing.get_origin(kind) is tuple:
        return _read_tuple(kind, optional=optional)
    if typing.get_origin(kind) is typing.Literal:
        kind = str
    if kind not in PLAIN_TYPES:
        raise TypeError(f"{info.annotation} has no form on a command line: give the field a `read`")
    return FieldType(kind, optional=optional, bounds=bounds)


def _read_tuple(kind: Any, *, optional: bool) -> FieldType:
    """Of any length: an option that is repeated; of a fixed one: so many words behind it."""
    first, *rest = typing.get_args(kind)
    many, bounds = rest == [Ellipsis], {}
    if many and typing.get_origin(first) is Annotated:
        first, *limits = typing.get_args(first)
        bounds = _read_bounds(limits)
    if first not in PLAIN_TYPES or not (many or all(other in PLAIN_TYPES for other in rest)):
        raise TypeError(f"{kind} has no form on a command line: give the field a `read`")
    return (
        FieldType(first, many=True, optional=True, bounds=bounds)
        if many
        else FieldType(kind, optional=optional)
    )


def _read_bounds(metadata: Iterable[Any]) -> dict[str, int | float]:
    """`min` and `max` as typer takes them; bounds that are no part of the range are the model's."""
    bounds: dict[str, int | float] = {}
    for data in metadata:
        for nested in getattr(data, "metadata", ()):  # a pydantic Field within an Annotated
            bounds |= _read_bounds([nested])
        for name, limit in (("ge", "min"), ("le", "max")):
            if (value := getattr(data, name, None)) is not None:
                bounds[limit] = value
    return bounds


def make_parameter(option: ModelOption) -> inspect.Parameter:
    """The parameter of a Typer command for one field."""
    shape = read_type(option.info, option.typed)
    text = " ".join((option.info.description or "").split())
    if option.typed.argument:
        about: Any = typer.Argument(help=text, metavar=option.typed.metavar or None)
    else:
        about = typer.Option(
            *option.names,
            help=f"{text} Repeatable." if shape.many else text,
            metavar=option.typed.metavar or None,
            rich_help_panel=option.panel or None,
            min=shape.bounds.get("min"),
            max=shape.bounds.get("max"),
        )
    kind = list[shape.kind] if shape.many else shape.kind  # type: ignore[name-defined]
    required = option.info.is_required()
    optional = shape.optional and not required
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else _read_default(option, shape),
        annotation=Annotated[kind | None if optional else kind, about],
    )


def _read_default(option: ModelOption, shape: FieldType) -> Any:
    """The default as the help shows it; None for a list, which is empty until one is typed."""
    default = option.info.get_default(call_default_factory=True)
    if shape.many or option.typed.read is not None:
        return None
    return default


def read_typed(options: list[ModelOption], context: Any, values: Mapping[str, Any]) -> TypedOptions:
    """What was typed, by the key of its field and never a default; tables by their entries.

    `context` is Typer's, of a class that it keeps to itself. Raises OptionError where a text cannot
    be read.
    """
    typed: TypedOptions = {}
    for option in options:
        source = context.get_parameter_source(option.name)
        if source is None or source.name in ("DEFAULT", "DEFAULT_MAP"):
            continue
        value = values[option.name]
        text = option.write(value)
        try:
            value = option.typed.read(value) if option.typed.read else value
        except ValueError as error:
            raise OptionError(f"{text}: {error}") from error
        typed |= {key: (leaf, text) for key, leaf in _list_leaves(option.key, value)}
    return typed


def _list_leaves(
    key: tuple[str | int, ...], value: Any
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """A value, or the entries of a table: they are laid over those a file has."""
    if not isinstance(value, dict):
        yield key, value
        return
    for name, entry in value.items():
        yield from _list_leaves((*key, name), entry)


class OptionError(ValueError):
    """An option whose text cannot be read; names the option, the text and how it is written."""


class ModelCommand(Command):
    """A command of options that are made when they are first asked for.

    The function it is of carries `load_model`, which imports the model, and `run`, which takes what
    was typed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.of_training = self.callback.of_training  # type: ignore[union-attr]
        del self.params  # until they are asked for: `frisket --help` imports no model

    def __getattr__(self, name: str) -> Any:
        """The options, made once."""
        if name != "params":
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        command = _make_command(self.callback)
        self.params, self.callback = command.params, command.callback
        return self.params


def add_command(
    app: typer.Typer,
    name: str,
    run: Callable[[TypedOptions], None],
    load_model: "Callable[[], type[BaseModel]]",
    *,
    of_training: bool = False,
) -> None:
    """Add a command whose options are the fields of a model; its help is the docstring of `run`.

    `of_training`: whether other trainers' names for options mean keys of its config.
    """

    def command() -> None:
        """Stand in until the options are made."""

    command.__doc__ = run.__doc__
    vars(command).update(run=run, load_model=load_model, of_training=of_training)
    app.command(name, cls=ModelCommand)(command)


def _make_command(stand_in: Any) -> Any:
    """The command with its options, as Typer makes it of a signature."""
    run, options = stand_in.run, list_options(stand_in.load_model())

    def command(context: Any, **values: Any) -> None:
        run(read_typed(options, context, values))

    context = inspect.Parameter(
        "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    parameters = [context, *map(make_parameter, options)]
    vars(command)["__signature__"] = inspect.Signature(parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return typer.main.get_command(app)
