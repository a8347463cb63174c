"""What does not go with control pictures beside clips (`[[data]] control`)."""

from collections.abc import Iterator

from frisket.config.provenance import Key
from frisket.config.tree import Config


def find_control_data_problems(config: Config) -> Iterator[tuple[Key, str]]:
    """Key and sentence of all that speaks against the control pictures; none where none are."""
    tables = [*config.data, *config.validation.data]
    places: list[Key] = [("data", number, "control") for number in range(len(config.data))]
    places += [
        ("validation", "data", number, "control") for number in range(len(config.validation.data))
    ]
    lacking = [place for place, data in zip(places, tables, strict=True) if data.control is None]
    if len(lacking) == len(tables):
        return
    for place in lacking:
        yield (
            place,
            "this data set has no `control` and others have one, and a batch may hold clips of"
            " both: give every [[data]] and [[validation.data]] one, or none",
        )
    for name, rate in (("swap", config.swap.rate), ("mix", config.mix.rate)):
        if rate > 0:
            yield (
                (name, "rate"),
                f"`{name}.rate` = {rate:g}: a {name} changes what a clip shows, and its control"
                f" picture stays as it was, so the two would not agree: set {name}.rate = 0, or"
                " take `control` out of [[data]]",
            )
