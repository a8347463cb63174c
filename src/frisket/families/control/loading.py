"""A ControlNet's folder, looked over before anything of it is built."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from frisket.disk.untrusted import BadText, read_table
from frisket.families import weights
from frisket.families.base import Source, WeightsNotFound
from frisket.families.control.base import ControlNotUsable


def load_net(
    kind: Any, source: str | Path, variant: str, *, dtype: torch.dtype, device: str
) -> nn.Module:
    """A net of the class `kind` from a folder that `save_pretrained` wrote, or a hub id; frozen.

    On the meta device only shapes are made, from config.json. Only safetensors are opened, and no
    code from the source is run. WeightsNotFound where nothing is there or a file is damaged;
    ControlNotUsable for another class's folder, and one that lacks tensors or has too many.
    """
    is_looked_at = device == weights.SHAPES
    folder = find_folder(source, variant, weights_too=not is_looked_at)
    if folder is None:
        config = _fetch_config(kind, str(source), offline=is_looked_at)
    else:
        config = read_config(folder)
    check_class(config, kind, source)
    if is_looked_at:
        try:
            with torch.device(device), ignore_deprecations():
                shapes: Any = kind.from_config(config)
        except Exception as error:  # a stranger's config may raise anything
            raise ControlNotUsable(
                f"{source}: its config.json is damaged: {_cut_reason(error)}. Fetch it again."
            ) from error
        # Not diffusers' own `to`, which warns of layers that lose precision: there is none to lose.
        return _freeze(nn.Module.to(shapes, dtype), device)
    return _freeze(_read(kind, str(folder or source), dtype, offline=folder is not None), device)


def find_folder(source: str | Path, variant: str, *, weights_too: bool = True) -> Path | None:
    """The local folder a source says, checked; None for a hub id.

    WeightsNotFound for a path that is not there, a single file, and a folder without config.json
    or safetensors weights.
    """
    path = Path(source).expanduser()
    if not str(source).strip():
        raise WeightsNotFound(
            "no ControlNet is named: give the folder that holds its config.json and .safetensors"
            " weights as control.source"
        )
    if path.is_file():
        raise WeightsNotFound(
            f"{path} is a single file: give the folder that holds a ControlNet's config.json and"
            " its .safetensors weights, as diffusers' save_pretrained writes it"
        )
    if not path.is_dir():
        hub_source = Source(variant, str(source))
        weights.local(hub_source)  # WeightsNotFound unless it may be a hub id
        return None
    if not (path / "config.json").is_file():
        inner = sorted(entry.parent.name for entry in path.glob("*/config.json"))
        hint = f" There is one in: {', '.join(inner)}." if inner else ""
        raise WeightsNotFound(
            f"{path} has no config.json, so it is no folder of a ControlNet.{hint}"
        )
    weights.check(path, str(path), weights=weights_too)
    return path


def check_class(config: Mapping[str, Any], kind: Any, source: str | Path) -> None:
    """ControlNotUsable where a configuration is of another class."""
    name = config.get("_class_name")
    if name != kind.__name__:
        hint = " (a union of kinds is not supported)" if "Union" in str(name) else ""
        raise ControlNotUsable(
            f"{source} holds a {name or 'model of no named class'}{hint}, and this model takes a"
            f" {kind.__name__}: check model.family and control.source"
        )


def read_config(folder: Path) -> Mapping[str, Any]:
    """A folder's config.json; ControlNotUsable where it is no table."""
    try:
        return read_table(folder / "config.json")
    except (BadText, OSError) as error:
        raise ControlNotUsable(f"{folder}/config.json cannot be read: {error}") from error


def expect(net: nn.Module, source: str | Path, settings: Mapping[str, Any], reason: str) -> None:
    """ControlNotUsable, ending with `reason`, where a net's configuration says something else."""
    config: Any = net.config
    for name, value in settings.items():
        if config.get(name) != value:
            raise ControlNotUsable(
                f"{source} is not usable: its {name} is {config.get(name)}, not {value}. {reason}"
            )


def _read(kind: Any, address: str, dtype: torch.dtype, *, offline: bool) -> nn.Module:
    try:
        with ignore_deprecations():
            net, report = kind.from_pretrained(
                address,
                torch_dtype=dtype,
                use_safetensors=True,
                local_files_only=offline,
                output_loading_info=True,
            )
    except OSError as error:
        raise _explain_missing(address, error) from error
    except (ValueError, TypeError, RuntimeError, KeyError, NotImplementedError) as error:
        raise ControlNotUsable(
            f"{address} does not fit its own config.json: {_cut_reason(error)}. Fetch it again."
        ) from error
    for word, names in (
        ("lacks", report["missing_keys"]),
        ("has too many:", report["unexpected_keys"]),
    ):
        if names:
            raise ControlNotUsable(
                f"{address} {word} {len(names)} tensors of a {kind.__name__}, the first is"
                f" {sorted(names)[0]}: it is another model's, or not whole"
            )
    return net


def _fetch_config(kind: Any, hub: str, *, offline: bool) -> Mapping[str, Any]:
    """What config.json of a hub id says; shapes alone are looked up among what was fetched."""
    try:
        return kind.load_config(hub, local_files_only=offline)
    except OSError as error:
        raise _explain_missing(hub, error) from error


def _explain_missing(hub: str, error: Exception) -> WeightsNotFound:
    return WeightsNotFound(
        f"could not load a ControlNet from {hub}, which is no folder here and was not had from the"
        f' hub: {_cut_reason(error)}. To work offline: hf download {hub} --local-dir "FOLDER", and'
        ' control.source = "FOLDER"'
    )


def _cut_reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [repr(error)]
    return lines[0].rstrip(".:")


@contextmanager
def ignore_deprecations() -> Iterator[None]:
    """Inside, diffusers does not warn of classes that its own ControlNets are still made of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`FluxPosEmbed` is deprecated", FutureWarning)
        yield


def _freeze(net: nn.Module, device: str) -> nn.Module:
    return net.to(device).requires_grad_(False).eval()
