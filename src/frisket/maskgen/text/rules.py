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
from frisket.maskgen.text.words import read_packaged, to_singular
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
class RegionRule:
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
        text = _to_singular(phrase.text.partition(" of ")[0])
        return any(_fits(pattern, phrase.text, text) for pattern in self.match)


def _fits(pattern: str, text: str, head_text: str) -> bool:
    if "*" in pattern or "?" in pattern:
        return fnmatchcase(text, pattern) or fnmatchcase(head_text, pattern)
    return f" {head_text}".endswith(f" {_to_singular(pattern)}") or text == pattern


def _to_singular(text: str) -> str:
    before, space, head = text.rpartition(" ")
    return f"{before}{space}{to_singular(head)}"


@dataclass(frozen=True, slots=True)
class RegionRules:
    """Rules in order; the first that holds decides. `priority`: earlier names keep the pixel."""

    rules: tuple[RegionRule, ...]
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
class RegionPlan:
    """What is looked for, and what is not."""

    regions: Mapping[str, tuple[str, ...]]  # region to phrases, by priority
    ignored: tuple[str, ...] = ()  # phrases of the background
    left: tuple[str, ...] = ()  # phrases no rule holds for

    def list_notes(self) -> list[str]:
        """What a user should know before models run, one sentence each."""
        sentences = []
        if not self.regions:
            sentences.append("No phrase belongs to a region, so there is nothing to look for.")
        if self.ignored:
            sentences.append(f"Background, not looked for: {', '.join(self.ignored)}.")
        if self.left:
            sentences.append(
                f"No rule for: {', '.join(self.left)}. Add one to the rules"
                f" (match = [{self.left[0]!r}]), or name it by hand (subject={self.left[0]})."
            )
        return sentences


def plan(phrases: Iterable[Phrase], rules: RegionRules) -> RegionPlan:
    """Phrases to regions, each phrase once, in their order."""
    regions: dict[str, dict[str, None]] = {}
    for phrase in phrases:
        regions.setdefault(rules.region(phrase), {})[phrase.text] = None
    ignored, left = (tuple(regions.pop(name, ())) for name in (BACKGROUND, ""))
    return RegionPlan({name: tuple(regions[name]) for name in rules.order(regions)}, ignored, left)


def dump() -> str:
    """The default rules as commented TOML, to be edited and read back."""
    return read_packaged(_FILE)


@cache
def default() -> RegionRules:
    """The rules that ship with Frisket."""
    return _parse_rules(tomllib.loads(read_packaged(_FILE)), _FILE)


def read(path: Path) -> RegionRules:
    """A user's rules, in front of the default ones unless the file says `defaults = false`.

    Raises BadRules with line and column where the file is no TOML, and with the number of the rule
    and the nearest known name where it is not a table of rules.
    """
    try:
        document = parse_toml(read_text(path))
    except FileNotFoundError as error:
        raise BadRules(f"rules {path}: there is no such file") from error
    except BadText as error:
        raise BadRules(f"{path}: {error}") from error
    user_rules = _parse_rules(document, str(path))
    with_defaults = document.get("defaults", True)
    if not isinstance(with_defaults, bool):
        raise BadRules(f"{path}: defaults is {with_defaults!r}; use true or false")
    if not with_defaults:
        return user_rules
    defaults = default()
    return RegionRules(
        user_rules.rules + defaults.rules,
        user_rules.priority or defaults.priority,
        {**defaults.clean, **user_rules.clean},
    )


def _parse_rules(document: Mapping[str, Any], name: str) -> RegionRules:
    _check_keys(document, _KEYS, name)
    rules, clean = document.get("rule", []), document.get("clean", {})
    if not isinstance(rules, list):
        raise BadRules(f"{name}: write each rule under [[rule]], with two brackets")
    if not isinstance(clean, dict) or not all(isinstance(it, dict) for it in clean.values()):
        raise BadRules(f"{name}: write clean-up options under the region, as in [clean.face]")
    priority = _parse_texts(document.get("priority", []), f"{name}: priority")
    return RegionRules(
        tuple(_parse_rule(rule, f"{name}: rule {number}") for number, rule in enumerate(rules, 1)),
        priority,
        clean,
    )


def _parse_rule(entry: Any, place: str) -> RegionRule:
    if not isinstance(entry, dict):
        raise BadRules(f"{place} is {entry!r}; write each rule under [[rule]], with two brackets")
    _check_keys(entry, _RULE_KEYS, place)
    region, only = entry.get("region"), entry.get("only", "")
    match = _parse_texts(entry.get("match", []), f"{place}: match")
    if not isinstance(region, str) or not region.strip():
        raise BadRules(f"{place}: region is {region!r}; name one, as in region = 'clothes'")
    if not match:
        raise BadRules(f"{place} matches nothing; add match = ['jacket', '* coat']")
    if only not in {"", *_ONLY}:
        raise BadRules(f"{place}: only is {only!r}{suggest(str(only), _ONLY)}")
    return RegionRule(match, region.strip(), cast(Only, only))


def _check_keys(table: Mapping[str, Any], keys: list[str], place: str) -> None:
    for key in table:
        if key not in keys:
            raise BadRules(f"{place}: there is no {key!r} here{suggest(key, keys)}")


def _parse_texts(entry: Any, place: str) -> tuple[str, ...]:
    texts = [entry] if isinstance(entry, str) else entry
    if not isinstance(texts, list) or not all(isinstance(t, str) and t.strip() for t in texts):
        raise BadRules(f"{place} is {entry!r}; give a list of texts, as in ['hat', '* coat']")
    return tuple(" ".join(text.lower().split()) for text in texts)
