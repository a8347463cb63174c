"""iResNets in pure torch: a backbone.pth of arcface_torch, 18 to 200 layers, gradients and maps."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from frisket.disk.untrusted import cut
from frisket.faces.base import (
    SIDE,
    AlignedFaces,
    EmbedderNotFound,
    EmbedderPlugin,
    EmbedderUnusable,
    RawEmbeddings,
)
from frisket.faces.iresnet import (
    FaceMaps,
    IResNet,
    IResNetShape,
    WrongFaceWeights,
    build_iresnet,
)
from frisket.licence import Licence

NAMES = ("backbone.safetensors", "backbone.pth", "model.safetensors", "model.pt")
PUBLISHED = (
    "arcface_torch's model zoo (github.com/deepinsight/insightface, recognition/arcface_torch):"
    " a backbone.pth or backbone.safetensors"
)
LICENCE = Licence(
    code="Apache-2.0 (Frisket's own)",
    weights="those of your file; InsightFace's are for non-commercial research only",
    warning=(
        "the public weights of this network (InsightFace) are for non-commercial research only, and"
        " face embeddings are biometric data: ask the people in the pictures where your law wants"
        " it."
    ),
)


class IResNetEmbedder:
    """An iResNet with weights; differentiable down to the pixels."""

    name = "iresnet"
    licence = LICENCE
    trainable_through = True

    def __init__(self, model: IResNet) -> None:
        self.model = model
        self.width = model.shape.embedding

    def embed(self, aligned: AlignedFaces) -> RawEmbeddings:
        """Raw embeddings; norms of trained networks are about 20."""
        embeddings: RawEmbeddings = self.model(self._move(aligned))
        return embeddings

    def embed_maps(self, aligned: AlignedFaces) -> tuple[RawEmbeddings, FaceMaps]:
        """Raw embeddings and the maps of the four stages, the finest first (UniID reads both)."""
        return self.model.forward_maps(self._move(aligned))

    def _move(self, aligned: AlignedFaces) -> Float[Tensor, "b 3 112 112"]:
        return aligned.to(next(self.model.parameters()))


def load(source: str, device: str) -> IResNetEmbedder:
    """A .pth, .pt or .safetensors file, or a folder that holds one of NAMES.

    Depth and width are read from the file. Raises EmbedderNotFound where there is none or it is
    damaged, EmbedderUnusable where it is another network (which names its keys).
    """
    file = _find_file(source)
    try:
        model = build_iresnet(read_weights(file))
    except WrongFaceWeights as error:
        raise EmbedderUnusable(f"{file}: {error}; give {PUBLISHED}") from error
    if model.shape.cells != (SIDE // 16) ** 2:
        raise EmbedderUnusable(
            f"{file}: the last map it reads has {model.shape.cells} cells, and aligned faces of"
            f" {SIDE} pixels have {(SIDE // 16) ** 2}; give {PUBLISHED}"
        )
    return IResNetEmbedder(model.to(device))


def read_weights(file: Path) -> Mapping[str, Tensor]:
    """Tensors of a file by key, nothing else of it; EmbedderNotFound where it cannot be read."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except (
        *(SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile),
        *(EOFError, OSError, RuntimeError),
    ) as error:
        raise EmbedderNotFound(
            f"{file} cannot be read as weights ({cut(' '.join(str(error).split()), 120)}): it is"
            f" damaged, or no file of plain tensors; download it again: {PUBLISHED}"
        ) from error
    is_plain = isinstance(weights, Mapping) and all(isinstance(v, Tensor) for v in weights.values())
    if not is_plain:
        raise EmbedderNotFound(f"{file} holds no plain table of tensors; give {PUBLISHED}")
    return {str(key): value for key, value in weights.items()}


def _find_file(source: str) -> Path:
    if not source:
        raise EmbedderNotFound(f"the embedder iresnet brings no weights: give {PUBLISHED}")
    place = Path(source).expanduser()
    if place.is_file():
        return place
    if not place.is_dir():
        raise EmbedderNotFound(f"{place} does not exist: give {PUBLISHED}")
    file = next((place / name for name in NAMES if (place / name).is_file()), None)
    if file is None:
        raise EmbedderNotFound(f"{place} holds none of {', '.join(NAMES)}; give {PUBLISHED}")
    return file


def build_tiny(folder: Path) -> Path:
    """A narrow iResNet of random weights as backbone.safetensors in `folder`, for tests."""
    generator = torch.Generator().manual_seed(0)
    model = IResNet(IResNetShape((1, 1, 1, 1), (4, 4, 4, 4), embedding=16, cells=49))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    weights = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    weights["fc.weight"] = weights["fc.weight"] * 10
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / NAMES[0])
    return folder


EMBEDDER = EmbedderPlugin(
    summary="iResNet 18 to 200 in pure torch, from a backbone.pth; gradients reach the pixels",
    licence=LICENCE,
    load=load,
    commercial=False,
    files=f"a folder with one of {', '.join(NAMES)}, or such a file",
    published=PUBLISHED,
    tiny=build_tiny,
    names=NAMES[:2],
    detector="yunet",
)
