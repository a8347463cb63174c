"""What `frisket import` was given: which trainer's it is, and all files of the run read at once."""

from collections.abc import Sequence
from pathlib import Path

from frisket.config.load import ConfigError
from frisket.importers.base import LAYOUTS, BadLayout, Imported
from frisket.importers.files import SUFFIXES, read_config
from frisket.importers.source_base import Source, read_source
from frisket.registry import UnknownPlugin, suggest

DEEPEST = 8  # files that name each other


def gather(
    paths: Sequence[Path], *, trainer: str = "", command: int | None = None
) -> tuple[str, Imported]:
    """The trainer's name, with the form that its files are in, and what they say together.

    Their order does not matter, but for options that several of them set. Raises BadLayout for one
    that cannot be read, ConfigError where no trainer suits all of them, or several do.
    """
    for path in paths:
        if not path.exists():
            raise BadLayout(f"{path}: there is no such file or folder")
    given = [each for path in paths for each in _opened(path, command, DEEPEST)]
    name = _named(trainer) if trainer else _trainer_of(given)
    if odd := next((s for s in given if isinstance(s, Source) and s.trainer != name), None):
        raise ConfigError(f"{odd.written.path} is {odd.form} of {odd.trainer}, not of {name}")
    forms = [each.form for each in given if isinstance(each, Source) and each.form]
    return ", ".join(dict.fromkeys([name, *forms])), _read(name, given)


def _opened(path: Path, command: int | None, left: int) -> list[Source | Path]:
    """A file, in the form of options where it is in a foreign form, with those that it names."""
    found = read_source(path, command)
    if found is None:
        return [path]
    if not left:
        raise BadLayout(f"{path}: names a file that names another, more than {DEEPEST} deep")
    opened: list[Source | Path] = []
    for each in found:
        opened += [each] if isinstance(each, Source) else _opened(each, None, left - 1)
    return opened


def _named(trainer: str) -> str:
    name = trainer.lower().replace("-", "_")
    if name not in (known := LAYOUTS.names()):
        raise UnknownPlugin(f"--from {trainer}: no such trainer{suggest(name, known)}")
    return name


def _trainer_of(given: Sequence[Source | Path]) -> str:
    """The one trainer whose files they are."""
    layouts = {name: LAYOUTS.load(name) for name in LAYOUTS.names()}
    listed = "".join(f"\n  --from {n}: {each.summary}" for n, each in layouts.items())
    left = set(layouts)
    named: dict[str, set[str]] = {}
    for each in given:
        if isinstance(each, Source):
            fitting = {each.trainer}
        else:
            fitting = {name for name, layout in layouts.items() if layout.suits(each)}
            if not fitting:
                _refuse(each, listed)
        named[str(each.written.path if isinstance(each, Source) else each)] = fitting
        left &= fitting
    if len(left) == 1:
        return left.pop()
    if left:
        either = " or ".join(sorted(left))
        raise ConfigError(
            f"{', '.join(named)} may be of {either}; say which with --from, or give the"
            f" other files of its run, too. There are:{listed}"
        )
    whose = "; ".join(f"{path} is of {' or '.join(sorted(of))}" for path, of in named.items())
    raise ConfigError(f"these are of different trainers: {whose}; give the files of one run")


def _refuse(source: Path, listed: str) -> None:
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        read_config(source)  # a fault in it is the better answer: it has line and column
    raise ConfigError(
        f"{source} is of no trainer that is known by its looks; name it with --from:{listed}"
    )


def _read(name: str, given: Sequence[Source | Path]) -> Imported:
    layout = LAYOUTS.load(name)
    if len(given) == 1 and isinstance(given[0], Path):
        return layout.read(given[0])
    if layout.read_sources is not None and not any(_is_folder(each) for each in given):
        return layout.read_sources([_source(name, each) for each in given])
    if len(given) == 1 and layout.read_written is not None and isinstance(given[0], Source):
        return layout.read_written(given[0].written)
    files = ", ".join(
        str(each.written.path if isinstance(each, Source) else each) for each in given
    )
    raise BadLayout(
        f"{files}: {name} takes one file or folder, which names the others; give that one alone"
    )


def _is_folder(each: Source | Path) -> bool:
    return isinstance(each, Path) and each.is_dir()


def _source(name: str, each: Source | Path) -> Source:
    """A native file as a source: the data sets have a table of their own name."""
    if isinstance(each, Source):
        return each
    written = read_config(each)
    data = isinstance(written.tree, dict) and "datasets" in written.tree
    return Source(name, "data" if data else "training", "", written)
