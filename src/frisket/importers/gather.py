"""What `frisket import` was given: which trainer's it is, and all files of the run read at once."""

from collections.abc import Sequence
from pathlib import Path

from frisket.config.load import ConfigError
from frisket.importers.base import IMPORT_FORMATS, BadImport, Imported
from frisket.importers.files import SUFFIXES, read_config
from frisket.importers.source_base import ConfigSource, read_source
from frisket.registry import UnknownPlugin, suggest

DEEPEST = 8  # files that name each other


def gather(
    paths: Sequence[Path], *, trainer: str = "", command: int | None = None
) -> tuple[str, Imported]:
    """The trainer's name, with the form that its files are in, and what they say together.

    Their order does not matter, but for options that several of them set. Raises BadImport for one
    that cannot be read, ConfigError where no trainer suits all of them, or several do.
    """
    for path in paths:
        if not path.exists():
            raise BadImport(f"{path}: there is no such file or folder")
    sources = [source for path in paths for source in _open_sources(path, command, DEEPEST)]
    name = _check_trainer(trainer) if trainer else _find_trainer(sources)
    if stranger := next(
        (s for s in sources if isinstance(s, ConfigSource) and s.trainer != name), None
    ):
        raise ConfigError(
            f"{stranger.written.path} is {stranger.form} of {stranger.trainer}, not of {name}"
        )
    forms = [source.form for source in sources if isinstance(source, ConfigSource) and source.form]
    return ", ".join(dict.fromkeys([name, *forms])), _read_run(name, sources)


def _open_sources(path: Path, command: int | None, left: int) -> list[ConfigSource | Path]:
    """A file, in the form of options where it is in a foreign form, with those that it names."""
    sources = read_source(path, command)
    if sources is None:
        return [path]
    if not left:
        raise BadImport(f"{path}: names a file that names another, more than {DEEPEST} deep")
    all_sources: list[ConfigSource | Path] = []
    for source in sources:
        all_sources += (
            [source] if isinstance(source, ConfigSource) else _open_sources(source, None, left - 1)
        )
    return all_sources


def _check_trainer(trainer: str) -> str:
    name = trainer.lower().replace("-", "_")
    if name not in (names := IMPORT_FORMATS.names()):
        raise UnknownPlugin(f"--from {trainer}: no such trainer{suggest(name, names)}")
    return name


def _find_trainer(sources: Sequence[ConfigSource | Path]) -> str:
    """The one trainer whose files they are."""
    layouts = {name: IMPORT_FORMATS.load(name) for name in IMPORT_FORMATS.names()}
    listed = "".join(f"\n  --from {n}: {source.summary}" for n, source in layouts.items())
    left = set(layouts)
    by_file: dict[str, set[str]] = {}
    for source in sources:
        if isinstance(source, ConfigSource):
            fitting = {source.trainer}
        else:
            fitting = {name for name, layout in layouts.items() if layout.matches(source)}
            if not fitting:
                _refuse(source, listed)
        by_file[str(source.written.path if isinstance(source, ConfigSource) else source)] = fitting
        left &= fitting
    if len(left) == 1:
        return left.pop()
    if left:
        candidates = " or ".join(sorted(left))
        raise ConfigError(
            f"{', '.join(by_file)} may be of {candidates}; say which with --from, or give the"
            f" other files of its run, too. There are:{listed}"
        )
    whose = "; ".join(f"{path} is of {' or '.join(sorted(of))}" for path, of in by_file.items())
    raise ConfigError(f"these are of different trainers: {whose}; give the files of one run")


def _refuse(source: Path, listed: str) -> None:
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        read_config(source)  # a fault in it is the better answer: it has line and column
    raise ConfigError(
        f"{source} is of no trainer that is known by its looks; name it with --from:{listed}"
    )


def _read_run(name: str, sources: Sequence[ConfigSource | Path]) -> Imported:
    layout = IMPORT_FORMATS.load(name)
    if len(sources) == 1 and isinstance(sources[0], Path):
        return layout.read(sources[0])
    if layout.read_sources is not None and not any(_is_folder(source) for source in sources):
        return layout.read_sources([_as_source(name, source) for source in sources])
    if (
        len(sources) == 1
        and layout.read_written is not None
        and isinstance(sources[0], ConfigSource)
    ):
        return layout.read_written(sources[0].written)
    files = ", ".join(
        str(source.written.path if isinstance(source, ConfigSource) else source)
        for source in sources
    )
    raise BadImport(
        f"{files}: {name} takes one file or folder, which names the others; give that one alone"
    )


def _is_folder(source: ConfigSource | Path) -> bool:
    return isinstance(source, Path) and source.is_dir()


def _as_source(name: str, source: ConfigSource | Path) -> ConfigSource:
    """A native file as a source: the data sets have a table of their own name."""
    if isinstance(source, ConfigSource):
        return source
    written = read_config(source)
    data = isinstance(written.tree, dict) and "datasets" in written.tree
    return ConfigSource(name, "data" if data else "training", "", written)
