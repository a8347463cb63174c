"""A request of a command: what was typed, over `--set`, over a config file, over the defaults."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from frisket.config.error_messages import explain
from frisket.config.load import read_layers
from frisket.config.provenance import ConfigError, Key, Origin, lay_option
from frisket.config.tree import Config, Section

R = TypeVar("R", bound=Section)


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
        path = tree.get("named") or tree.get("config", model.model_fields["config"].default)
        read, origin = read_layers(path, tree.get("overrides", ()), inner, model=config)
    values = tree | {name: getattr(read, name) for name in sections}
    try:
        return model.model_validate(values), read, origin
    except ValidationError as error:
        texts = Origin(options={key: text for key, (_, text) in typed.items()})
        raise ConfigError(explain(error, tree, texts)) from error
