"""What the loss terms of a configuration ask for besides the prediction."""

from collections.abc import Collection, Iterator

from frisket.config.tree import Config


def list_term_needs(config: Config) -> Iterator[tuple[str, Collection[str]]]:
    """Every term that counts, with its needs; one that is wrong is left to its own check."""
    from frisket.losses.base import TERMS  # noqa: PLC0415 - torch, only when asked for

    for name, table in config.losses.terms.items():
        options = {key: value for key, value in table.items() if key != "strength"}
        try:
            yield name, TERMS.load(name)(**options).needs
        except (TypeError, ValueError, LookupError):
            continue
