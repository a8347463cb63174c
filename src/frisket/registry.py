"""Shelves of plugins: a plugin is a file, and its name in the config is its file name."""

import difflib
import pkgutil
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class UnknownPlugin(LookupError):
    """A name that no file on the shelf and no entry point has."""


def nearest(name: str, known: list[str]) -> str:
    """A hint ", did you mean ...?" for a mistyped name, or the list of what there is."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else f"; there are: {', '.join(sorted(known))}"


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
        found: list[Any] = [p for p in entry_points(group=self.group) if p.name == name]
        if not found:
            kind = self.package.rsplit(".", 2)[-2]
            raise UnknownPlugin(f"no {kind} plugin is named {name!r}{nearest(name, self.names())}")
        return cast(T, found[0].load())
