"""What a run that trained an image adapter leaves: where it lies, and what samples with it."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from diffusers import ControlNetModel
from torch import nn

from frisket.adapters.image.adapter import find_image_adapter
from frisket.adapters.image.branches import ADAPTER, TEXT, write_branch
from frisket.adapters.image.files import write_image_adapter
from frisket.adapters.image.instantid import InstantIdModules
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
    options = config.image_adapter
    result = describe_result(options.kind)
    words = ["frisket", "generate", *([config_file] if config_file else [])]
    words += ["--base", "--method", result.method]
    words += ["--method-source", str(config.run.output / result.source)]
    if result.method == "uniid":
        words += ["--encoder", str(options.embedder_source)]
    for name in result.networks:
        source = getattr(options, f"{name}_source", None)
        words += [f"--{name}", str(getattr(options, name))]
        words += [f"--{name}-source", str(source)] if source is not None else []
    if options.strokes != "fixed":
        words += ["--method-option", f"strokes={options.strokes}"]
    words += ["--face", "PICTURE", "-p", "PROMPT"]
    return shlex.join(words)


def save_image_adapter(denoiser: nn.Module, folder: Path, metadata: dict[str, str]) -> Path:
    """Write the adapter on a denoiser into a run's folder; returns its file or folder there.

    In the public layout of its kind (transformers: ours with the same names). The metadata go into
    a file of safetensors or beside a branch of UniID; InstantID's files have no place for them.
    """
    adapter = find_image_adapter(denoiser)
    assert adapter is not None
    path = folder / describe_result(adapter.kind).path
    if adapter.identity_net is not None:
        InstantIdModules(adapter, cast(ControlNetModel, adapter.identity_net)).save(path)
    elif path.suffix:
        write_image_adapter(path, adapter.to_file(), metadata)
    else:
        path.mkdir(parents=True, exist_ok=True)
        write_branch(path, replace(adapter.to_file(), config=metadata))
    return path
