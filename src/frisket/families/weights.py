"""Where a family's weights come from: folders, single files and hub ids, checked before loading."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError, safe_open
from torch import nn

from frisket.disk.untrusted import read_table
from frisket.families.base import Source, WeightsNotFound
from frisket.families.quantise import quantise

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
SHAPES = "meta"  # a Source's device that asks for shapes only: no weights are looked for or read


def component(source: Source, repo: str, subfolder: str, *, weights: bool = True) -> Path | None:
    """The folder of one part of a model on this machine, checked, or None when it is on the hub.

    `repo` is the variant's own hub id, named in the fix. A single file is looked up beside itself
    and one folder up, so `model/transformer/weights.safetensors` finds `model/vae`. Raises
    WeightsNotFound where the part is missing or damaged; with `weights` its safetensors files are
    opened and every shard of its index must be there (`config.json` is always needed).
    """
    root = local(source)
    if root is None:
        return None
    if root.is_file():
        beside = [parent / subfolder for parent in (root.parent, root.parent.parent)]
        folder = next((path for path in beside if path.is_dir()), None)
        if folder is None:
            raise WeightsNotFound(
                f"{root} is a single file and holds the denoiser only; there is no {subfolder}/"
                f" beside it. {_fetch(repo, subfolder, root.parent)}"
            )
    else:
        folder = root / subfolder
    check(folder, repo, weights=weights)
    return folder


def local(source: Source) -> Path | None:
    """The file or folder a source points at, or None for a hub id.

    Raises WeightsNotFound for what is neither: a path that is not there, or a file of another
    kind than safetensors (pickles can run code when they are opened).
    """
    path = source.local
    if path is None:
        if source.path and not HUB_ID.fullmatch(source.path):
            raise WeightsNotFound(
                f"{source.path} is not there. Give a diffusers folder, a .safetensors file or a hub"
                " id (owner/name) as model.source, or leave it empty for the variant's own."
            )
        return None
    if path.is_file() and path.suffix != ".safetensors":
        raise WeightsNotFound(
            f"{path} is not a .safetensors file. Pickled checkpoints are not opened; convert it to"
            " safetensors first."
        )
    return path


def check(folder: Path, repo: str, *, weights: bool = True) -> None:
    """Raise WeightsNotFound unless `folder` has a config and whole safetensors files."""
    fetch = _fetch(repo, folder.name, folder.parent)
    if not folder.is_dir():
        there = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
        raise WeightsNotFound(
            f"{folder.parent} has no {folder.name}/ (it has: {', '.join(there) or 'no folders'})."
            f" {fetch}"
        )
    if not weights:
        return
    if not (folder / "config.json").is_file():
        raise WeightsNotFound(f"{folder} has no config.json. {fetch}")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        only = f" (only {', '.join(pickled)}, which Frisket does not open)" if pickled else ""
        raise WeightsNotFound(f"{folder} has no .safetensors weights{only}. {fetch}")
    _check_shards(folder, {path.name for path in files}, fetch)
    for file in files:
        tensors(file)


def _check_shards(folder: Path, there: set[str], fetch: str) -> None:
    """WeightsNotFound, which ends with `fetch`, where an index names a file that is not there."""
    for index in folder.glob("*.safetensors.index.json"):
        shards_by_tensor = read_table(index).get("weight_map")
        if not isinstance(shards_by_tensor, dict):
            raise WeightsNotFound(f"{index} lists no weights. {fetch}")
        shards = {str(shard) for shard in shards_by_tensor.values()}
        lost = sorted(shards - there)
        if lost:
            raise WeightsNotFound(f"{folder} lacks {len(lost)} shard(s): {lost[0]}. {fetch}")


def tensors(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a safetensors file, from its header; WeightsNotFound if it is damaged."""
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsNotFound(
            f"{file} is cut short or no safetensors file ({error}). Fetch it again."
        ) from error


def load(kind: Any, source: Source, repo: str, subfolder: str, **options: Any) -> Any:
    """`kind.from_pretrained` of one part: from its local folder without any network, or the hub.

    Only safetensors are opened and no code from the source is run. WeightsNotFound says where was
    looked. For a source on the meta device a model is built from its config.json alone,
    and the hub is not asked.
    """
    if source.device == SHAPES and isinstance(kind, type) and issubclass(kind, nn.Module):
        return _shapes(kind, source, repo, subfolder)
    folder = component(source, repo, subfolder, weights=options.get("use_safetensors", False))
    if folder is not None:
        return kind.from_pretrained(str(folder), local_files_only=True, **options)
    hub = source.path or repo
    options["local_files_only"] = source.device == SHAPES  # looking never waits for a network
    try:
        return kind.from_pretrained(hub, subfolder=subfolder, revision=source.revision, **options)
    except OSError as error:
        missing = f" {source.path} is no folder or file here either." if source.path else ""
        raise WeightsNotFound(
            f"could not load {subfolder}/ of {hub} from the hub: {_first_line(error)}.{missing}"
            f" To work offline: {_fetch(repo, subfolder, Path('FOLDER'))}"
        ) from error


def denoiser(
    kind: Any,
    source: Source,
    repo: str,
    subfolder: str = "transformer",
    *,
    architecture: Mapping[str, Any] | None = None,
) -> Any:
    """A denoiser from its folder, the hub, or one .safetensors file in diffusers' or original keys.

    `architecture` is the configuration of the variant (beyond the class's defaults), for a single
    file with no config.json beside it: a file carries none, and asking the hub for one would break
    offline use. Raises WeightsNotFound as `load`, and ValueError where a file's tensors do not fit.
    Where the source asks for it, the weights are then quantised (`frisket.families.quantise`). For
    a source on the meta device only shapes are made, from `config.json` or `architecture`.
    """
    file = local(source)
    if source.device == SHAPES:
        model = _shapes(kind, source, repo, subfolder, architecture)
    elif file is not None and file.is_file():
        model = _single_file(kind, file, source, subfolder, architecture)
    else:
        model = load(kind, source, repo, subfolder, torch_dtype=source.dtype, use_safetensors=True)
    return quantise(model, source.quantise, dtype=source.dtype, device=source.device)


def _single_file(
    kind: Any, file: Path, source: Source, subfolder: str, architecture: Mapping[str, Any] | None
) -> Any:
    tensors(file)
    beside = [file.parent / "config.json", file.parent / subfolder / "config.json"]
    config = next((path for path in beside if _class_of(path) == kind.__name__), None)
    if config is None and architecture is None:
        raise WeightsNotFound(
            f"{file} needs the config.json of its {subfolder}/ beside it: the architecture of"
            f" variant {source.variant} is not built in"
        )
    where = f"variant {source.variant}" if config is None else str(config)
    with TemporaryDirectory() as scratch:
        if config is None:
            config = Path(scratch) / "config.json"
            config.write_text(json.dumps({"_class_name": kind.__name__, **(architecture or {})}))
        try:
            model = kind.from_single_file(
                str(file),
                config=str(config.parent),
                torch_dtype=source.dtype,
                local_files_only=True,
            )
        except (ValueError, LookupError, NotImplementedError, RuntimeError) as error:
            # A parameter that no tensor filled cannot leave the meta device: NotImplementedError.
            lacking = isinstance(error, NotImplementedError)
            raise ValueError(
                f"{file} does not fit the architecture of {where}:"
                f" {'it lacks some of its tensors' if lacking else error}. Choose the variant the"
                " file was made for, or put its own config.json beside it."
            ) from error
    strict(model, file)
    _keep_float32(model)
    return model


def _keep_float32(model: nn.Module) -> None:
    """What from_pretrained leaves in float32, and from_single_file casts with the rest."""
    exact = getattr(model, "_keep_in_fp32_modules", None) or ()
    for name, value in model.named_parameters():
        if any(part in name.split(".") for part in exact):
            value.data = value.data.float()


def _shapes(
    kind: Any,
    source: Source,
    repo: str,
    subfolder: str,
    architecture: Mapping[str, Any] | None = None,
) -> Any:
    """A model without weights, on the meta device, in the precision it would be loaded in."""
    folder = _config_folder(local(source), subfolder)
    try:
        if folder is None and (architecture is None or source.path):
            folder = _find_fetched(source, repo, subfolder, architecture is not None)
        model = _build_shapes(kind, folder, architecture or {})
    except OSError as error:
        raise WeightsNotFound(
            f"the shape of {subfolder}/ of {source.path or repo} is not known here:"
            f" {_first_line(error)}. Its config.json is enough: hf download {repo} --include"
            f' "*/config.json" --local-dir FOLDER, and model.source = "FOLDER"'
        ) from error
    exact = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    for name, value in model.named_parameters():
        if value.is_floating_point() and not exact & set(name.split(".")):
            value.data = value.data.to(source.dtype)
    return model


def _build_shapes(kind: Any, folder: Path | None, architecture: Mapping[str, Any]) -> Any:
    """A model on the meta device, of the config.json in a folder, or of the class's defaults."""
    with torch.device(SHAPES):
        if folder is None:
            return kind.from_config({"_class_name": kind.__name__, **architecture})
        if hasattr(kind, "config_class"):  # of transformers
            return kind(kind.config_class.from_pretrained(str(folder)))
        return kind.from_config(kind.load_config(str(folder)))


def _find_fetched(source: Source, repo: str, subfolder: str, spare: bool) -> Path | None:
    """The folder of a config.json that was downloaded before; with a `spare` None where none is.

    The hub is not asked: shapes are for looking, and looking never waits for a network.
    """
    try:
        if source.local is not None:
            raise FileNotFoundError(f"there is no {subfolder}/config.json")
        name, where = f"{subfolder}/config.json", source.path or repo
        kept = hf_hub_download(where, name, revision=source.revision, local_files_only=True)
    except OSError:
        if spare:
            return None
        raise
    return Path(kept).parent


def _config_folder(root: Path | None, subfolder: str) -> Path | None:
    """The folder whose config.json says what a part is: under `root`, or beside a single file."""
    if root is None:
        return None
    beside = [root.parent, root.parent / subfolder, root.parent.parent / subfolder]
    folders = beside if root.is_file() else [root / subfolder]
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def _class_of(config: Path) -> str:
    if not config.is_file():
        return ""
    return str(read_table(config).get("_class_name", ""))


def freeze(model: nn.Module, source: Source) -> nn.Module:
    """The model on the source's device, in eval mode, no parameter asking for a gradient."""
    return model.to(source.device).requires_grad_(False).eval()


def expect(config: Any, wanted: dict[str, Any], *, where: str, what: str) -> None:
    """Raise ValueError where a loaded config is not of the wanted kind (another model's folder)."""
    for name, value in wanted.items():
        actual = config.get(name)
        if actual != value:
            raise ValueError(
                f"{where} is not {what}: its {name} is {actual}, not {value}. Check model.family"
                " and model.variant."
            )


def strict(model: nn.Module, file: Path) -> None:
    """Raise ValueError where a single file left parameters of `model` empty."""
    empty = [name for name, value in model.named_parameters() if value.is_meta]
    if empty:
        raise ValueError(
            f"{file} lacks {len(empty)} tensors of {type(model).__name__}, the first is {empty[0]}."
            " It is another model's file, or not a whole one."
        )


def _fetch(repo: str, subfolder: str, folder: Path) -> str:
    return f'Fetch it: hf download {repo} --include "{subfolder}/*" --local-dir "{folder}"'


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else repr(error)
