"""Which region a phrase belongs to: an ordered table that the user can edit."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from frisket.disk.untrusted import BadText, parse_toml, read_text
from frisket.maskgen.text.phrases import Phrase
from frisket.maskgen.text.words import packaged, singular
from frisket.masks.read import BACKGROUND
from frisket.registry import suggest

Only = Literal["", "subject", "setting"]

_FILE = "rules.toml"
_KEYS = ["defaults", "priority", "clean", "rule"]
_RULE_KEYS = ["match", "region", "only"]
_ONLY = ["subject", "setting"]


class BadRules(ValueError):
    """A table of rules that cannot be read; names the file, the place and the fix."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Phrases of one region.

    A pattern is the end of a phrase, in the singular ("jacket" is in "red jackets", "tank top" in
    "white tank top"; of "cup of coffee" it is the end of "cup"), or, with * or ?, all of it.
    """

    match: tuple[str, ...]
    region: str
    only: Only = ""  # for what is trained, or for settings, alone

    def holds(self, phrase: Phrase) -> bool:
        """Whether a phrase is of this rule."""
        if self.only and not (phrase.is_subject if self.only == "subject" else phrase.setting):
            return False
        named = _singular(phrase.text.partition(" of ")[0])
        return any(_fits(pattern, phrase.text, named) for pattern in self.match)


def _fits(pattern: str, text: str, named: str) -> bool:
    if "*" in pattern or "?" in pattern:
        return fnmatchcase(text, pattern) or fnmatchcase(named, pattern)
    return f" {named}".endswith(f" {_singular(pattern)}") or text == pattern


def _singular(text: str) -> str:
    before, space, head = text.rpartition(" ")
    return f"{before}{space}{singular(head)}"


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules in order; the first that holds decides. `priority`: earlier names keep the pixel."""

    rules: tuple[Rule, ...]
    priority: tuple[str, ...] = ()
    clean: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # region to options

    def region(self, phrase: Phrase) -> str:
        """The region of a phrase: its own, else that of the first rule; empty where none holds."""
        if phrase.region:
            return phrase.region
        return next((rule.region for rule in self.rules if rule.holds(phrase)), "")

    def order(self, regions: Iterable[str]) -> list[str]:
        """Regions by priority; those it does not name come first, as the more special ones."""
        ranks = {name: rank for rank, name in enumerate(self.priority)}
        return sorted(dict.fromkeys(regions), key=lambda name: ranks.get(name, -1))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is looked for, and what is not."""

    regions: Mapping[str, tuple[str, ...]]  # region to phrases, by priority
    ignored: tuple[str, ...] = ()  # phrases of the background
    left: tuple[str, ...] = ()  # phrases no rule holds for

    def list_notes(self) -> list[str]:
        """What a user should know before models run, one sentence each."""
        said = []
        if not self.regions:
            said.append("No phrase belongs to a region, so there is nothing to look for.")
        if self.ignored:
            said.append(f"Background, not looked for: {', '.join(self.ignored)}.")
        if self.left:
            said.append(
                f"No rule for: {', '.join(self.left)}. Add one to the rules"
                f" (match = [{self.left[0]!r}]), or name it by hand (subject={self.left[0]})."
            )
        return said


def plan(phrases: Iterable[Phrase], rules: Rules) -> Plan:
    """Phrases to regions, each phrase once, in their order."""
    regions: dict[str, dict[str, None]] = {}
    for phrase in phrases:
        regions.setdefault(rules.region(phrase), {})[phrase.text] = None
    ignored, left = (tuple(regions.pop(name, ())) for name in (BACKGROUND, ""))
    return Plan({name: tuple(regions[name]) for name in rules.order(regions)}, ignored, left)


def dump() -> str:
    """The default rules as commented TOML, to be edited and read back."""
    return packaged(_FILE)


@cache
def default() -> Rules:
    """The rules that ship with Frisket."""
    return _rules(tomllib.loads(packaged(_FILE)), _FILE)


def read(path: Path) -> Rules:
    """A user's rules, in front of the default ones unless the file says `defaults = false`.

    Raises BadRules with line and column where the file is no TOML, and with the number of the rule
    and the nearest known name where it is not a table of rules.
    """
    try:
        told = parse_toml(read_text(path))
    except FileNotFoundError as error:
        raise BadRules(f"rules {path}: there is no such file") from error
    except BadText as error:
        raise BadRules(f"{path}: {error}") from error
    own = _rules(told, str(path))
    with_defaults = told.get("defaults", True)
    if not isinstance(with_defaults, bool):
        raise BadRules(f"{path}: defaults is {with_defaults!r}; use true or false")
    if not with_defaults:
        return own
    ours = default()
    return Rules(own.rules + ours.rules, own.priority or ours.priority, {**ours.clean, **own.clean})


def _rules(told: Mapping[str, Any], name: str) -> Rules:
    _known(told, _KEYS, name)
    rules, clean = told.get("rule", []), told.get("clean", {})
    if not isinstance(rules, list):
        raise BadRules(f"{name}: write each rule under [[rule]], with two brackets")
    if not isinstance(clean, dict) or not all(isinstance(it, dict) for it in clean.values()):
        raise BadRules(f"{name}: write clean-up options under the region, as in [clean.face]")
    priority = _texts(told.get("priority", []), f"{name}: priority")
    return Rules(
        tuple(_rule(rule, f"{name}: rule {number}") for number, rule in enumerate(rules, 1)),
        priority,
        clean,
    )


def _rule(told: Any, place: str) -> Rule:
    if not isinstance(told, dict):
        raise BadRules(f"{place} is {told!r}; write each rule under [[rule]], with two brackets")
    _known(told, _RULE_KEYS, place)
    region, only = told.get("region"), told.get("only", "")
    match = _texts(told.get("match", []), f"{place}: match")
    if not isinstance(region, str) or not region.strip():
        raise BadRules(f"{place}: region is {region!r}; name one, as in region = 'clothes'")
    if not match:
        raise BadRules(f"{place} matches nothing; add match = ['jacket', '* coat']")
    if only not in {"", *_ONLY}:
        raise BadRules(f"{place}: only is {only!r}{suggest(str(only), _ONLY)}")
    return Rule(match, region.strip(), cast(Only, only))


def _known(told: Mapping[str, Any], keys: list[str], place: str) -> None:
    for key in told:
        if key not in keys:
            raise BadRules(f"{place}: there is no {key!r} here{suggest(key, keys)}")


def _texts(told: Any, place: str) -> tuple[str, ...]:
    texts = [told] if isinstance(told, str) else told
    if not isinstance(texts, list) or not all(isinstance(t, str) and t.strip() for t in texts):
        raise BadRules(f"{place} is {told!r}; give a list of texts, as in ['hat', '* coat']")
    return tuple(" ".join(text.lower().split()) for text in texts)
