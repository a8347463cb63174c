"""What is wrong with a configuration's text, key by key, in the words of the command line."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.config.load import ConfigError, read
from frisket.config.provenance import Key, Problem
from frisket.config.tree import Config
from frisket.disk.toml_lines import lines_of
from frisket.disk.untrusted import CONFIG, BadText, parse_toml
from frisket.studio.configs.edit import to_plain

MEANT = re.compile(r", did you mean `([^`]+)`\?$")
OWN_NAME = re.compile(r"; here it is `([\w.]+)`$")
HOME = re.compile(r"; it belongs in \[([\w.]+)\]$")


@dataclass(frozen=True, slots=True)
class TextCheck:
    """A text looked at: its tree, its configuration, the line of every key, and what is wrong.

    The tree is None where it is no TOML, the configuration where it is none that can be used.
    """

    tree: dict[str, Any] | None
    config: Config | None
    lines: list[tuple[Key, int]] = field(default_factory=list)
    problems: tuple[Problem, ...] = ()

    def describe(self) -> dict[str, Any]:
        """As JSON for the page."""
        return {
            "tree": None if self.tree is None else to_plain(self.tree),
            "lines": [[list(key), line] for key, line in self.lines],
            "problems": [describe_problem(problem) for problem in self.problems],
            "valid": self.config is not None,
        }


def check_text(text: str, path: Path) -> TextCheck:
    """Look at what `path` is about to hold; loads no torch, so shelves are not asked.

    Problems are those that `frisket train` would name, in its words, all of them.
    """
    if len(text.encode()) > CONFIG:
        message = f"a configuration has at most {CONFIG} bytes; this one is larger"
        return TextCheck(None, None, problems=(Problem((), message),))
    try:
        tree, lines = parse_toml(text), list(lines_of(text).items())
    except BadText:
        tree, lines = None, []
    try:
        return TextCheck(tree, read(path, text=text)[0], lines)
    except ConfigError as error:
        problems = error.problems or (Problem((), str(error)),)
        return TextCheck(tree, None, lines, problems)


def describe_problem(problem: Problem) -> dict[str, Any]:
    """A problem as JSON; with the change that mends it, where its words name one."""
    fix = next(_find_fixes(problem), None)
    described = {"key": list(problem.key), "line": problem.line, "message": problem.message}
    return described | ({"fix": fix} if fix else {})


def _find_fixes(problem: Problem) -> Iterator[dict[str, Any]]:
    """Changes (as the page sends them back) that the words of a problem propose."""
    key, message = list(problem.key), problem.message
    if not key:
        return
    unknown = message.startswith("unknown key")
    if match := MEANT.search(message):
        meant = match[1]
        change = {"key": key, "to": [*key[:-1], meant]} if unknown else {"key": key, "value": meant}
        yield {"says": f"use {meant}", "changes": [change]}
    elif unknown and (match := OWN_NAME.search(message)):
        yield {"says": f"move to {match[1]}", "changes": [{"key": key, "to": match[1].split(".")}]}
    elif unknown and (match := HOME.search(message)):
        target = [*match[1].split("."), key[-1]]
        yield {"says": f"move to [{match[1]}]", "changes": [{"key": key, "to": target}]}
    elif unknown:
        yield {"says": "take it out", "changes": [{"key": key, "remove": True}]}
