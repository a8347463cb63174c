# ruff: noqa: D102
"""Records the command-line options of kohya's trainers, by running each script's own parser.

    python scripts/peers/options.py SD_SCRIPTS MUSUBI BLISSFUL > options.json

Each argument is FOLDER@COMMIT, a folder with the repository's text at a commit. A script runs up to
`parse_args`, where its parser is taken; every package that is neither Python's nor the
repository's own is stood in for by an object without meaning.
"""

import argparse
import importlib.abc
import importlib.machinery
import json
import runpy
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TRAINERS = ("kohya", "musubi", "blissful")


class Taken(BaseException):
    """A parser that was about to parse."""


class Nothing(type):
    """Stands in for whatever a package that is not installed would hold."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return fresh()

    def __call__(cls, *values: Any, **named: Any) -> Any:
        alone = len(values) == 1 and callable(values[0]) and not named
        return values[0] if alone else fresh()  # a decorator leaves what it decorates

    def __iter__(cls) -> Any:
        return iter(())

    def __or__(cls, other: Any) -> Any:
        return other

    def __ror__(cls, other: Any) -> Any:
        return other

    def __getitem__(cls, key: Any) -> Any:
        return Void

    def __lt__(cls, other: Any) -> bool:
        return False

    def __add__(cls, other: Any) -> Any:
        return fresh()

    __gt__ = __le__ = __ge__ = __lt__
    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __add__
    __floordiv__ = __mod__ = __pow__ = __rpow__ = __add__


class Void(metaclass=Nothing):
    """Nothing at all."""


def fresh() -> Any:
    """Nothing, of a class of its own: a class may inherit several."""
    return Nothing("Void", (), {})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every package that is neither Python's nor lies in one of the folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        top = name.partition(".")[0]
        own = any((f / top).is_dir() or (f / f"{top}.py").is_file() for f in self.folders)
        if own or top in sys.stdlib_module_names:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> Any:
        module = types.ModuleType(spec.name)
        module.__path__ = []  # type: ignore[attr-defined]
        module.__getattr__ = lambda _: fresh()  # type: ignore[attr-defined]
        return module

    def exec_module(self, module: Any) -> None:
        pass


def parser_of(script: Path) -> argparse.ArgumentParser:
    """The parser that a script would parse its command line with."""

    def take(self: argparse.ArgumentParser, *_: Any, **__: Any) -> Any:
        raise Taken(self)

    argparse.ArgumentParser.parse_args = take  # type: ignore[method-assign]
    argparse.ArgumentParser.parse_known_args = take  # type: ignore[method-assign]
    folders = [script.parent, *(up / "src" for up in script.parents if (up / "src").is_dir())]
    sys.path[:0] = [str(folder) for folder in folders]
    sys.meta_path.insert(0, Finder(folders))
    sys.argv = [str(script)]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except Taken as taken:
        return taken.args[0]  # type: ignore[no-any-return]
    raise SystemExit(f"{script} parses nothing")


def row(action: argparse.Action) -> dict[str, Any]:
    """An option as JSON."""
    kind = getattr(action.type, "__name__", "str") if action.type else "str"
    name = type(action).__name__.strip("_").removesuffix("Action")
    name = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
    found: dict[str, Any] = {
        "flags": list(action.option_strings),
        "action": name,
        "type": "bool" if "true" in name or "false" in name else kind,
        "nargs": action.nargs if name == "store" else None,
    }
    if name in ("store_const",):
        found["const"] = action.const
    default = action.default
    found["default"] = default if isinstance(default, int | float | str | list) else None
    if action.choices:
        found["choices"] = list(action.choices)
    return {key: each for key, each in found.items() if each is not None}


def main(words: Sequence[str]) -> None:
    """Record one script (`script FILE`) or all of three folders."""
    if words[0] == "script":
        parser = parser_of(Path(words[1]).resolve())
        rows = {a.dest: row(a) for a in parser._actions if a.option_strings and a.dest != "help"}
        print("@@" + json.dumps(rows))
        return
    hashes = [word.partition("@")[2] for word in words]
    record: dict[str, Any] = {}
    for trainer, folder in zip(TRAINERS, words, strict=True):
        root = Path(folder.partition("@")[0])
        inner = root / "src" / "musubi_tuner"
        scripts = sorted((inner if inner.is_dir() else root).glob("*train*.py"))
        options: dict[str, dict[str, Any]] = {}
        commit = {"commit": hashes.pop(0)}
        record[trainer] = {**commit, "scripts": {}, "options": options, "differs": {}}
        for script in (s for s in (*scripts, *root.glob("fine_tune.py"))):
            told = subprocess.run(
                [sys.executable, __file__, "script", str(script)],
                capture_output=True,
                text=True,
                check=False,
            )
            line = next((x for x in told.stdout.splitlines() if x.startswith("@@")), "")
            if not line:
                print(script.name, told.stderr[-600:], file=sys.stderr)
                continue
            rows = json.loads(line[2:])
            record[trainer]["scripts"][script.name] = sorted(rows)
            for name, each in rows.items():
                if options.setdefault(name, each) != each:
                    record[trainer]["differs"].setdefault(script.name, {})[name] = each
    print(lined(record))


def lined(record: Any, depth: int = 3) -> str:
    """JSON with a line for each thing down to a depth."""
    if not depth or not isinstance(record, dict):
        return json.dumps(record)
    rows = (f"{json.dumps(name)}: {lined(each, depth - 1)}" for name, each in record.items())
    return "{\n" + ",\n".join(rows) + "\n}"


if __name__ == "__main__":
    main(sys.argv[1:])
