"""Image adapter files in the public layouts: read by key, written in the public numbering.

`.bin` (torch): {"image_proj": ..., "ip_adapter": ...}. `.safetensors`: the same, flat, under the
prefixes `image_proj.` and `ip_adapter.`. Both as the files of h94, InstantID, XLabs and InstantX
are, and as diffusers' `load_ip_adapter` reads them; XLabs' own names are read too. UniID: a folder
a branch (`frisket.adapters.image.branches`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from torch import Tensor

from frisket.adapters import files
from frisket.adapters.image import branches, xlabs
from frisket.adapters.image.layouts import ImageAdapterFile, ImageAdapterKind, recognise
from frisket.adapters.image.pickles import check_tensors, make_plain, read_pickle, write_pickle
from frisket.adapters.metadata import show_text
from frisket.adapters.spec import AdapterMismatch

RECORD = "frisket.image_adapter"  # metadata key: the kind, where a file of ours says it
FAMILY = "frisket.family"  # metadata key: the family that an adapter of ours was trained on
PROJECTION, LAYERS = "image_proj", "ip_adapter"
SECOND = ("plusv2", "plus-v2", "plus_v2")  # in the names of FaceID-Plus files of version 2
PUBLISHED = (
    "image adapters are published at h94/IP-Adapter, h94/IP-Adapter-FaceID, InstantX/InstantID,"
    " XLabs-AI/flux-ip-adapter and pangly/UniID on Hugging Face"
)


def read_image_adapter(path: Path, kind: ImageAdapterKind | None = None) -> ImageAdapterFile:
    """An image adapter by its tensors: a `.bin`, a `.safetensors` or a folder of a UniID branch.

    `kind` is needed only where the tensors fit two kinds; without it the file's metadata decide,
    then what `recognise` takes, which its notes say. FileNotFoundError where there is none;
    AdapterMismatch names the file and what is wrong in it.
    """
    path = Path(path)
    if path.is_dir():
        return branches.read_branch(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no image adapter {path}; {PUBLISHED}")
    metadata: Mapping[str, str] = {}
    if path.suffix == ".safetensors":
        flat, metadata = files.tensors(path)
        projection, layers = xlabs.rename_tensors(flat) or _split(path, flat)
    else:
        content = read_pickle(path)
        projection, layers = (_need_part(path, content, name) for name in (PROJECTION, LAYERS))
        if more := sorted(set(content) - {PROJECTION, LAYERS}):
            raise AdapterMismatch(f"{path} has {show_text(more[0], 60)!r} beside the two parts")
    second = any(word in path.name.lower() for word in SECOND)
    try:
        return recognise(
            projection,
            layers,
            kind=kind or _read_kind(metadata),
            plus_v2=second,
            family=metadata.get(FAMILY, ""),
        )
    except AdapterMismatch as error:
        raise AdapterMismatch(f"{path}: {error}") from error


def write_image_adapter(
    path: Path, adapter: ImageAdapterFile, metadata: Mapping[str, str] | None = None
) -> None:
    """Write an adapter in its public layout, atomically; CannotWrite leaves what was there.

    The suffix decides: `.safetensors`, `.bin`, or none for the folder of a UniID branch. Tensors go
    as they are, in their dtype. A `.bin` of FaceID-Plus version 2 needs "plusv2" in its name, as
    nothing else tells its readers, and one of ours (`family`) cannot be one; AdapterMismatch
    otherwise. ValueError for another suffix. `metadata` are further entries of a `.safetensors`.
    """
    path = Path(path)
    if adapter.kind in ("uniid-text", "uniid-adapter"):
        branches.write_branch(path, adapter)
        return
    layers = {**adapter.layers, **adapter.loras}
    if path.suffix == ".safetensors":
        flat = {f"{PROJECTION}.{key}": value for key, value in adapter.projection.items()}
        flat |= {f"{LAYERS}.{key}": value for key, value in layers.items()}
        family = {FAMILY: adapter.family} if adapter.family else {}
        files.write(path, make_plain(flat), {**(metadata or {}), RECORD: adapter.kind, **family})
    elif path.suffix == ".bin":
        if adapter.shortcut and not any(word in path.name.lower() for word in SECOND):
            raise AdapterMismatch(
                f"nothing written to {path}: readers know the second version of FaceID-Plus by"
                " its file name alone; put plusv2 into it"
            )
        if adapter.family:
            raise AdapterMismatch(
                f"nothing written to {path}: an adapter of ours for {adapter.family} says so in its"
                " metadata, which a .bin has none of; write .safetensors"
            )
        parts = {PROJECTION: make_plain(adapter.projection), LAYERS: make_plain(layers)}
        write_pickle(path, parts)
    else:
        raise ValueError(f"{path}: an image adapter's file ends in .safetensors or .bin")


def _split(path: Path, flat: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {PROJECTION: {}, LAYERS: {}}
    for key, value in flat.items():
        part, _, rest = key.partition(".")
        if part not in parts or not rest:
            raise AdapterMismatch(
                f"{path} has {show_text(key, 60)!r}: an image adapter's tensors are called"
                f" {PROJECTION}.* and {LAYERS}.*"
            )
        parts[part][rest] = value
    return parts[PROJECTION], parts[LAYERS]


def _need_part(path: Path, content: Mapping[str, object], name: str) -> dict[str, Tensor]:
    part = content.get(name)
    if not isinstance(part, Mapping):
        keys = show_text(", ".join(sorted(map(str, content))[:4]), 120) or "nothing"
        raise AdapterMismatch(
            f"{path} has {keys} and no {name!r}: an image adapter's file has {PROJECTION!r} and"
            f" {LAYERS!r}"
        )
    return check_tensors(path, part)


def _read_kind(metadata: Mapping[str, str]) -> ImageAdapterKind | None:
    kinds = {kind: kind for kind in get_args(ImageAdapterKind)}
    return kinds.get(metadata.get(RECORD, ""))
