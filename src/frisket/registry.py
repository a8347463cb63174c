"""Shelves of plugins: a plugin is a file, and its name in the config is its file name."""

import difflib
import pkgutil
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class UnknownPlugin(LookupError):
    """A name that no file on the shelf and no entry point has."""


def suggest(name: str, known: list[str]) -> str:
    """A hint ", did you mean ...?" for a mistyped name, or the list of what there is."""
    near = find_nearest(name, known, cutoff=0.5)
    listed = ", ".join(sorted(known))
    return f", did you mean {' or '.join(map(repr, near))}?" if near else f"; there are: {listed}"


def find_nearest(name: str, known: Sequence[str], *, cutoff: float) -> list[str]:
    """What a name may have meant: what it begins or is a part of, else what is spelt alike.

    `qwen` is a beginning of `qwen_image`, and no slip of `wan`.
    """
    plain = name.lower()
    if len(plain) > 2:
        for fits in (str.startswith, str.__contains__):
            matches = [candidate for candidate in known if fits(candidate.lower(), plain)]
            if matches:
                return matches[:3]
    return difflib.get_close_matches(plain, known, n=1, cutoff=cutoff)


class Shelf(Generic[T]):
    """All plugins of one kind: the modules of `package` and the entry points of `group`.

    Every module binds its plugin to `attribute`; an entry point points at the plugin itself.
    Listing names imports nothing.
    """

    def __init__(self, package: str, attribute: str, group: str) -> None:
        """Describe a shelf; nothing is imported until a plugin is loaded."""
        self.package, self.attribute, self.group = package, attribute, group

    def _own(self) -> list[str]:
        path = import_module(self.package).__path__
        return sorted(module.name for module in pkgutil.iter_modules(path))

    def names(self) -> list[str]:
        """Names of every plugin, ours first."""
        own = self._own()
        return own + sorted({point.name for point in entry_points(group=self.group)} - set(own))

    def load(self, name: str) -> T:
        """Import one plugin; UnknownPlugin names the nearest one there is."""
        if name in self._own():
            return cast(T, getattr(import_module(f"{self.package}.{name}"), self.attribute))
        points: list[Any] = [p for p in entry_points(group=self.group) if p.name == name]
        if not points:
            kind = self.package.rsplit(".", 2)[-2]
            raise UnknownPlugin(f"no {kind} plugin is named {name!r}{suggest(name, self.names())}")
        return cast(T, points[0].load())
