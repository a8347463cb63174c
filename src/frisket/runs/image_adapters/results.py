"""What a run that trained an image adapter leaves: where it lies, and what samples with it."""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from frisket.adapters.image.branches import ADAPTER, TEXT
from frisket.config.tree import Config

FILE = "image_adapter.safetensors"  # in the folder of a run, and in its checkpoints
UNIID = "uniid"  # the folder that the branches of UniID are in


@dataclass(frozen=True, slots=True)
class AdapterResult:
    """Where an adapter of a kind lies in a run's folder, and what `frisket generate` calls it.

    `path` is what is written, `source` what `--method-source` takes; `networks` are the options
    that name what it was shown through.
    """

    path: Path
    method: str
    source: Path
    networks: tuple[str, ...]

    @property
    def is_folder(self) -> bool:
        """Whether that is several files."""
        return not self.path.suffix


_FACES = ("embedder", "detector")
_RESULTS = {
    "faceid": AdapterResult(Path(FILE), "faceid", Path(FILE), _FACES),
    "instantid": AdapterResult(Path("instantid"), "instantid", Path("instantid"), _FACES),
    "uniid-text": AdapterResult(Path(UNIID) / TEXT, "uniid", Path(UNIID), _FACES),
    "uniid-adapter": AdapterResult(Path(UNIID) / ADAPTER, "uniid", Path(UNIID), _FACES),
}
_PICTURES = AdapterResult(Path(FILE), "ip_adapter", Path(FILE), ("encoder",))


def describe_result(kind: str) -> AdapterResult:
    """Where the adapter of a kind lies, and what samples with it."""
    return _RESULTS.get(kind, _PICTURES)


def write_command(config: Config, config_file: str = "") -> str:
    """The command that samples with what a run has trained, for a picture of the user's."""
    return shlex.join(_list_words(config, config_file, config.run.output, Path))


def write_published_command(config: Config, config_file: str) -> str:
    """The same for whoever stands in the run's folder, of networks the last names alone."""
    words = _list_words(config, config_file, Path(), lambda path: Path(path.name))
    return " ".join(shlex.join(words).split())


def _list_words(
    config: Config, config_file: str, folder: Path, name_file: Callable[[Path], Path]
) -> list[str]:
    options = config.image_adapter
    result = describe_result(options.kind)
    words = ["frisket", "generate", *([config_file] if config_file else [])]
    words += ["--base", "--method", result.method]
    words += ["--method-source", str(folder / result.source)]
    if result.method == "uniid" and options.embedder_source is not None:
        words += ["--encoder", str(name_file(options.embedder_source))]
    for name in result.networks:
        value, source = getattr(options, name), getattr(options, f"{name}_source", None)
        words += [f"--{name}", str(name_file(value) if isinstance(value, Path) else value)]
        words += [f"--{name}-source", str(name_file(source))] if source is not None else []
    for option in _list_options(config):
        words += ["--method-option", option]
    return [*words, "--face", "PICTURE", "-p", "PROMPT"]


def _list_options(config: Config) -> Iterator[str]:
    """Of the method what must be as it was while training."""
    options = config.image_adapter
    if options.strokes != "fixed":
        yield f"strokes={options.strokes}"
    # The words were taught as the branch makes them; other lengths of theirs it has never seen.
    if options.kind == "uniid-text":
        yield "norms=none"
