"""Loads transformers models from a folder or hub id, safely, and says what is missing."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from frisket.disk.untrusted import BadText, read_table
from frisket.maskgen.base import BackendUnusable, MaskWeightsNotFound, ModelSource
from frisket.maskgen.vision.preprocess import FILES

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

ENDS = 1 << 16  # bytes of a file's beginning and end that `compute_fingerprint` reads
WEIGHTS = ("*.safetensors", "*.bin")
PROCESSOR = {  # what a stock processor is read from, under any of the names it has had
    "preprocessor_config.json": FILES,
    "tokenizer.json": ("tokenizer.json", "vocab.txt", "vocab.json"),
}


def folder_of(source: ModelSource, repo: str, *, needs: Sequence[str] = ("config.json",)) -> Path:
    """The local folder of a model: the source's own, or the hub's snapshot (downloaded once).

    `needs` are files the backend reads besides the weights. Raises MaskWeightsNotFound, which names
    the folder and what is missing in it, or says why the hub gave nothing and how to go on.
    """
    name = source.path or repo
    local = Path(name).expanduser()
    if local.is_file():
        raise MaskWeightsNotFound(f"{local} is a file; give the folder the model was saved in")
    if not local.is_dir():
        if source.path and (local.is_absolute() or name.startswith((".", "~"))):
            raise MaskWeightsNotFound(f"{local}: there is no such folder")
        local = _download(name, source.revision)
    _check_complete(local, needs)
    return local


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - slow, and not always needed
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415

    # Never code. Older repositories have pickles alone, which are read with weights_only.
    patterns = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
        if not any(folder.glob("*.safetensors")):
            snapshot_download(name, revision=revision, allow_patterns=["pytorch_model*.bin"])
        return folder
    except HFValidationError as error:
        raise MaskWeightsNotFound(f"{name!r} is neither a folder here nor a hub id") from error
    except (HfHubHTTPError, OSError) as error:
        raise MaskWeightsNotFound(
            f"{name}: the hub gave no files ({type(error).__name__}). Download the model on a"
            f" machine that can (`hf download {name} --local-dir FOLDER`) and give --source FOLDER;"
            " a gated model also wants its terms accepted on its page and `hf auth login`"
        ) from error


def find_cached(repo: str) -> Path | None:
    """The folder of a hub model that was downloaded before, whole; None where it was not.

    Asks no network.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - slow, and not always needed
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    try:
        folder = Path(snapshot_download(repo, local_files_only=True))
        _check_complete(folder, ("config.json",))
    except (HfHubHTTPError, OSError, ValueError):
        return None
    return folder


def _check_complete(folder: Path, needs: Sequence[str]) -> None:
    missing = [name for name in needs if not (folder / name).is_file()]
    if not any(path for pattern in WEIGHTS for path in folder.glob(pattern)):
        missing.append("model.safetensors")
    if missing:
        listing = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise MaskWeightsNotFound(f"{folder} lacks {', '.join(missing)} (it holds {listing})")


def config_of(folder: Path, *kinds: str) -> Mapping[str, Any]:
    """The config.json of a folder; MaskWeightsNotFound where its model_type is none of `kinds`."""
    file = folder / "config.json"
    try:
        config: Mapping[str, Any] = read_table(file)
    except BadText as error:
        raise MaskWeightsNotFound(str(error)) from error
    if (kind := config.get("model_type")) not in kinds:
        raise MaskWeightsNotFound(
            f"{folder} holds a model of type {kind}, not {' or '.join(kinds)}"
        )
    return config


def load_processor(kind: Any, folder: Path) -> Any:
    """The stock processor (pictures and text) saved beside a model, without remote code.

    MaskWeightsNotFound names the files that are missing, or passes on what transformers said.
    """
    missing = [
        name
        for name, names in PROCESSOR.items()
        if not any((folder / other).is_file() for other in names)
    ]
    if missing:
        raise MaskWeightsNotFound(
            f"{folder} lacks {', '.join(missing)}; copy what is missing from the model's page"
            " beside its weights"
        )
    try:
        return kind.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MaskWeightsNotFound(
            f"{folder}: its processor does not load as {kind.__name__}: {error}"
        ) from error


def compute_fingerprint(path: Path) -> str:
    """What a model is, in a word: the hub's commit, or a quick hash of its files.

    The hash is of their names, sizes and ends, not of every byte.
    """
    parts = path.resolve().parts
    if "snapshots" in parts[:-1]:
        return parts[parts.index("snapshots") + 1]
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(ENDS))
            stream.seek(max(size - ENDS, 0))
            digest.update(stream.read(ENDS))
    return digest.hexdigest()[:16]


def load_model(kind: Any, folder: Path, source: ModelSource) -> Any:
    """A transformers model in eval mode on the source's device, without remote code or pickles.

    MaskWeightsNotFound where its files are damaged or another model's; transformers' words follow.
    """
    from transformers.utils import logging as chatter  # noqa: PLC0415 - slow to import

    chatter.disable_progress_bar()  # the run has one of its own; downloads keep theirs
    try:
        model, loading_info = kind.from_pretrained(
            folder, dtype=source.dtype, weights_only=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise MaskWeightsNotFound(
            f"{folder} does not load as {getattr(kind, '__name__', kind)}: {error}"
        ) from error
    finally:
        chatter.enable_progress_bar()
    missing = sorted(loading_info["missing_keys"])
    if missing:
        raise MaskWeightsNotFound(
            f"{folder} has no weights for {len(missing)} parts of {type(model).__name__}, such as"
            f" {missing[0]}: it is another model, or an unfinished download"
        )
    return model.requires_grad_(False).eval().to(source.device)


def run_halving(
    run: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T], batch: int
) -> Iterator[R]:
    """`run` over `items` in batches, in order; where memory runs out, half the batch from then on.

    BackendUnusable where not even one fits.
    """
    at = 0
    while at < len(items):
        part = items[at : at + batch]
        try:
            answered = run(part)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            if len(part) == 1:
                raise BackendUnusable(
                    "one picture alone does not fit the memory; make it smaller (--longest 1024),"
                    " take a smaller model, or run on another device"
                ) from error
            batch = max(len(part) // 2, 1)
            log.warning("out of memory at %d pictures; going on with %d", len(part), batch)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        yield from answered
        at += len(part)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return (
        "out of memory" in message
        or "can't allocate memory" in message
        or "not enough memory" in message
    )
