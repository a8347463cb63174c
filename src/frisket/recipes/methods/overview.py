"""Which methods there are, on which models each runs, and which files and networks they take."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from frisket.faces.base import EMBEDDERS
from frisket.faces.detect import DETECTORS
from frisket.families.base import FAMILIES
from frisket.inference.methods.plugin import METHODS, MethodPlugin
from frisket.registry import UnknownPlugin, suggest


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """One method as `frisket methods` shows it.

    `runs` has the variants it runs on by family, `refused` the reason by `family variant` where it
    does not. `options` are its own with their defaults.
    """

    name: str
    summary: str
    runs: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, str]
    reads: str
    files: str
    encoder: str
    published: str
    code_licence: str
    weights_licence: str
    trains: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NetworkEntry:
    """A face embedder or detector; `commercial` says whether its weights may be used so."""

    kind: str
    name: str
    summary: str
    files: str
    published: str
    weights_licence: str
    commercial: bool


@dataclass(frozen=True, slots=True)
class MethodOverview:
    """All methods that were asked for, and all networks that read faces."""

    methods: tuple[MethodEntry, ...]
    networks: tuple[NetworkEntry, ...]

    def write_tree(self) -> dict[str, Any]:
        """For JSON: plain tables and lists."""
        return {
            "methods": [asdict(entry) for entry in self.methods],
            "networks": [asdict(entry) for entry in self.networks],
        }


def list_methods(family: str = "") -> MethodOverview:
    """Ask every plugin what it is and, of every variant, whether it runs there.

    With `family` of its variants alone, and the methods that run on none are left out. Loads no
    weights. UnknownPlugin for a family that is not on the shelf.
    """
    families = FAMILIES.names()
    if family and family not in families:
        raise UnknownPlugin(f"no family is named {family!r}{suggest(family, families)}")
    names = [family] if family else families
    entries = [_ask_method(name, METHODS.load(name), names) for name in METHODS.names()]
    kept = [entry for entry in entries if entry.runs or not family]
    return MethodOverview(tuple(kept), tuple(_list_networks()))


def _ask_method(name: str, plugin: MethodPlugin, families: Sequence[str]) -> MethodEntry:
    runs: dict[str, tuple[str, ...]] = {}
    refused: dict[str, str] = {}
    for family_name in families:
        family = FAMILIES.load(family_name)
        reasons = {variant: plugin.refuse(family, variant) for variant in family.variants}
        if fitting := tuple(variant for variant, reason in reasons.items() if not reason):
            runs[family_name] = fitting
        refused |= {f"{family_name} {key}": reason for key, reason in reasons.items() if reason}
    return MethodEntry(
        name=name,
        summary=plugin.summary,
        runs=runs,
        refused=refused,
        reads=plugin.reads,
        files=plugin.files,
        encoder=plugin.encoder,
        published=plugin.published,
        code_licence=plugin.licence.code,
        weights_licence=plugin.licence.weights,
        trains=plugin.trains,
        options=_list_defaults(plugin.options),
    )


def _list_defaults(options: type[Any]) -> dict[str, Any]:
    """The fields of a dataclass with their defaults, as JSON has them."""
    plain = asdict(options())
    return {field.name: plain[field.name] for field in fields(options)}


def _list_networks() -> list[NetworkEntry]:
    shelves = (("embedder", EMBEDDERS), ("detector", DETECTORS))
    return [
        NetworkEntry(
            kind,
            name,
            plugin.summary,
            plugin.files,
            plugin.published,
            plugin.licence.weights,
            plugin.commercial,
        )
        for kind, shelf in shelves
        for name, plugin in ((name, shelf.load(name)) for name in shelf.names())
    ]
