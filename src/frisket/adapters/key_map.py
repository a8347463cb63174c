"""What a layer is called in each key format, both ways, through the family's table of names."""

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from frisket.adapters.spec import AdapterMismatch
from frisket.families.key_map import Names, UnknownLayer

NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
Space = Literal["original", "diffusers"]
LayerNames = tuple[str, ...]


class Lexicon:
    """The layers of a model, by the authors' names and by diffusers', dotted and flat.

    Flat names have `_` for `.`, which cannot be undone by rule: each is looked up among the flat
    names of the layers there are. Those are the rows of the family's table; where it is empty (both
    sides call everything alike) they are the layers given, any number standing for any other.
    """

    def __init__(self, names: Names, layers: Iterable[str] = ()) -> None:
        """`layers`: names of a model's layers (any size of the family's)."""
        self.names = names
        alike = dict.fromkeys(NUMBER.sub("{}", name) for name in layers)
        rows = names.rows or {name: name for name in alike}
        plain = {**rows, **names.turned}
        tables = (plain, names.also)
        originals = [(key, _as_tuple(row)) for table in tables for key, row in table.items()]
        own = [(name, (name,)) for _, row in originals for name in row]
        self.books = {
            ("original", False): _Book(originals, flat=False),
            ("original", True): _Book(originals, flat=True),
            ("diffusers", False): _Book(own, flat=False),
            ("diffusers", True): _Book(own, flat=True),
        }

    def find(self, space: Space, name: str, *, flat: bool) -> LayerNames | None:
        """Diffusers' names of the layers a name stands for (several: fused); None if unknown."""
        return self.books[space, flat].find(name)

    def original(self, name: str) -> tuple[str, int, int]:
        """As `Names.original`; AdapterMismatch where the table does not have the layer."""
        turned = self.names.find_turned(name)
        if turned is not None:
            return turned, 0, 1
        try:
            return self.names.original(name)
        except UnknownLayer as error:
            raise AdapterMismatch(f"{error}; write diffusers keys") from error

    def may_turn(self, name: str) -> bool:
        """Whether the halves of a layer's rows may trade places between the authors and diffusers.

        The modulation of a stream's end: the original has shift before scale there, diffusers scale
        before shift (its AdaLayerNormContinuous). That layer has two outputs an input; SD3's blocks
        before the last have more under the same name, in one order on both sides.
        """
        return self.names.find_turned(name) is not None

    def parts(self, original: str) -> LayerNames:
        """Diffusers' names of an original layer, in order."""
        return self.names.diffusers(original)


def _as_tuple(row: str | LayerNames) -> LayerNames:
    return (row,) if isinstance(row, str) else row


class _Book:
    """Templates to names; `{}` is a number."""

    def __init__(self, rows: Iterable[tuple[str, LayerNames]], *, flat: bool) -> None:
        self.plain: dict[str, list[LayerNames]] = {}
        self.patterns: list[tuple[re.Pattern[str], LayerNames]] = []
        for key, names in rows:
            template = key.replace(".", "_") if flat else key
            if "{}" in template:
                pieces = map(re.escape, template.split("{}"))
                self.patterns.append((re.compile(r"(\d+)".join(pieces)), names))
            else:
                self.plain.setdefault(template, []).append(names)

    def find(self, name: str) -> LayerNames | None:
        matches = dict.fromkeys(self._all(name))
        if len(matches) > 1:
            choices = " or ".join(", ".join(names) for names in matches)
            raise AdapterMismatch(f"{name} stands for more than one layer: {choices}")
        return next(iter(matches), None)

    def _all(self, name: str) -> Iterator[LayerNames]:
        yield from self.plain.get(name, ())
        for pattern, names in self.patterns:
            if match := pattern.fullmatch(name):
                yield tuple(template.format(*match.groups()) for template in names)
