"""What is wrong with `[[identity]]` tables as far as the shelf of methods says it."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from frisket.config.error_messages import or_all, problem
from frisket.config.identity.tables import IdentityTable
from frisket.config.provenance import Key
from frisket.config.tree import Config

TABLE = "identity"


def list_identity_problems(config: Config) -> Iterator[tuple[Key, str]]:
    """Methods and embedders that are not there, options that a method has not or reads otherwise.

    Each with its key and a sentence. Loads the plugins that are named, and so torch.
    """
    if not config.identity:
        return
    from frisket.faces.base import EMBEDDERS  # noqa: PLC0415 - torch, only when asked for
    from frisket.faces.detect import DETECTORS  # noqa: PLC0415 - the same
    from frisket.inference.methods.plugin import METHODS  # noqa: PLC0415 - the same

    for number, table in enumerate(config.identity):
        key = (TABLE, number)
        if table.method not in (method_names := METHODS.names()):
            hint = or_all(table.method, method_names)
            yield (*key, "method"), f"no method is named {table.method!r}{hint}"
            continue
        for field, shelf in (("embedder", EMBEDDERS), ("detector", DETECTORS)):
            name, network_names = getattr(table, field), shelf.names()
            if name and name not in network_names:
                yield (
                    (*key, field),
                    f"no face {field} is named {name!r}{or_all(name, network_names)}",
                )
        if table.strict and table.mask is None:
            yield (
                (*key, "strict"),
                f"`strict` keeps what is outside a mask, and {table.method} has none: give `mask`"
                " (--method-mask), or leave it out",
            )
        yield from _list_option_problems(key, table, METHODS.load(table.method).options)


def _list_option_problems(
    key: Key, table: IdentityTable, options: type[Any]
) -> Iterator[tuple[Key, str]]:
    """Names that the plugin's dataclass has not, then values that are none of its own."""
    option_names = [field.name for field in fields(options)]
    for name in table.options:
        if name not in option_names:
            hint = or_all(name, option_names) if option_names else ": it has none"
            yield (*key, "options", name), f"{table.method} has no option {name!r}{hint}"
            return
    try:
        read_options(table, options)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = (*key, "options", *detail["loc"][:1])
        yield place, problem(detail, place)


def read_options(table: IdentityTable, options: type[Any]) -> Any:
    """An instance of a plugin's options; ValidationError for values that are none of theirs."""
    return TypeAdapter(options).validate_python(table.options)
