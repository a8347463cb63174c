"""The loss terms of a configuration, built."""

from dataclasses import fields
from typing import Any

from frisket.config.compat import prior_options
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.losses.base import TERMS, LossTerm


def terms_of(config: Config) -> dict[str, tuple[LossTerm, float]]:
    """Loss terms and strengths of a configuration (already checked by `load.check`)."""
    prior = config.losses.terms.get("prior", {})
    if prior.get("teacher") == "ema" and not config.optimizer.ema:
        raise ConfigError('losses.prior: teacher = "ema" needs optimizer.ema, e.g. 0.99; set it')
    terms = {}
    for name, section in config.losses.terms.items():
        table = section | (prior_options(config) if name == "prior" else {})
        term: Any = TERMS.load(name)
        counts = {field.name for field in fields(term) if field.type is int}
        options = {
            key: value if key in counts else _convert(value)
            for key, value in table.items()
            if key != "strength"
        }
        terms[name] = (term(**options), float(table["strength"]))
    return terms


def _convert(value: object) -> object:
    """TOML writes 1.0 as 1 as often as not, and has lists where a frozen dataclass has tuples."""
    if type(value) is int:
        return float(value)
    return tuple(value) if isinstance(value, list) else value
