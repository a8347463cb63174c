"""Reads what UniID needs: its branches' folders, the recognition network, the reference's face."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.adapters.image.branches import ADAPTER, TEXT, WEIGHTS, find_branches, read_branch
from frisket.adapters.image.layouts import ImageAdapterFile
from frisket.adapters.image.numbering import list_places
from frisket.adapters.image.uniid import UniIdAdapterProjection, UniIdTextProjection
from frisket.adapters.spec import AdapterMismatch
from frisket.adapters.targets import unwrap_model
from frisket.attention.base import AttentionLayer
from frisket.faces.base import EMBEDDERS, AlignedFaces, RawEmbeddings, check_norm, check_width
from frisket.faces.opening import open_embedder
from frisket.families.base import Family, Parts
from frisket.families.experts import first
from frisket.inference.methods.identity.adapter_layers import PlacedModule, name_layers
from frisket.inference.methods.identity.rescale import MergeSchedule
from frisket.inference.methods.identity.unets import has_unet
from frisket.inference.methods.identity.uniid.method import FaceTokens, UniId
from frisket.inference.methods.identity.uniid.name_norms import read_name_norms
from frisket.inference.methods.identity.uniid.words import FaceWords, NormSource
from frisket.inference.methods.plugin import MethodRequest, MethodUnusable

BranchChoice = Literal["both", "text", "adapter"]
FaceMapList = list[Float[Tensor, "b _ _ _"]]
NETWORK = "iresnet"  # on the shelf of embedders: the kind that the branches are trained on


@runtime_checkable
class FaceMapEmbedder(Protocol):
    """An embedder that shows what its stages made of a face, as the iresnet one does."""

    def embed_maps(self, aligned: AlignedFaces) -> tuple[RawEmbeddings, FaceMapList]:
        """Raw embeddings and the maps of the stages, the finest first."""
        ...


@dataclass(frozen=True, slots=True)
class UniIdOptions:
    """What is UniID's own; the numbers are the authors' for 30 steps.

    Until `start` steps are done the branches have the first of the two strengths, from then on the
    second. `rescale` is the normalised rescaling of the adapter branch. `norms` is what the words
    are brought to: "prompt" (the tokens that they push aside; ours), "names" (the authors': the
    file name_norms.json in the folder) or "none". `branches`: which of those in the folder.
    """

    start: int = 5
    text: tuple[float, float] = (0.5, 1.8)
    adapter: tuple[float, float] = (0.8, 1.2)
    rescale: bool = True
    norms: NormSource = "prompt"
    branches: BranchChoice = "both"

    def __post_init__(self) -> None:
        """MethodUnusable for a number of steps that is none."""
        if self.start < 0:
            raise MethodUnusable(f"start = {self.start} is no number of steps")


def refuse_others(family: Family, variant: str) -> str:
    """Why UniID cannot run on a variant; empty for UNets, which read text by cross-attention."""
    if has_unet(family, variant):
        return ""
    return f"UniID is made for UNets (it is published for SDXL); {family.name} {variant} has none"


@dataclass(frozen=True, slots=True)
class ReadUniId:
    """UniID's files read and the face projected; waits for the denoiser."""

    request: MethodRequest
    options: UniIdOptions
    words: FaceWords | None
    image: "ProjectedFace | None"

    def build(self, family: Family, parts: Parts) -> UniId:
        """The method; MethodUnusable where the denoiser is no UNet of the branches' widths."""
        assert parts.denoiser is not None
        reason = refuse_others(family, parts.variant)
        places = {} if reason else list_places(family, parts.denoiser)
        layers = [layer for layer in places.values() if layer.kind == "cross"]
        model = unwrap_model(first(parts.denoiser))
        width = getattr(model.config, "cross_attention_dim", None)
        if not layers or not isinstance(width, int):
            raise MethodUnusable(reason or f"uniid: {type(model).__name__} is no UNet of SDXL")
        words, source = self.words, self.request.source
        if words is not None and words.width != width:
            raise MethodUnusable(
                f"{source}: the text branch makes tokens of {words.width} channels, and"
                f" {family.name} {parts.variant} reads text of {width}: it was made for another"
                ' model (the published one is for SDXL); branches = "adapter" leaves it out'
            )
        image = None if self.image is None else self.image.lay_on(family, parts, layers)
        return UniId(
            parts.denoiser,
            layers,
            words,
            image,
            schedule=MergeSchedule(self.options.start, self.options.text, self.options.adapter),
            scale=self.request.scale,
            rescale=self.options.rescale,
            masks=self.request.masks,
            strict=self.request.strict,
        )


@dataclass(frozen=True, slots=True)
class ProjectedFace:
    """The adapter branch's file and what it makes of the face, and of none."""

    source: Path
    file: ImageAdapterFile
    tokens: Float[Tensor, "1 n c"]
    negative: Float[Tensor, "1 n c"]

    def lay_on(self, family: Family, parts: Parts, layers: Sequence[AttentionLayer]) -> FaceTokens:
        """Keys and values on the layers of a UNet; MethodUnusable where they are not the file's."""
        assert parts.denoiser is not None
        names = name_layers(self.file, str(self.source), family, parts.denoiser)
        text: Any = layers[0].module
        if text.to_k.in_features != self.tokens.shape[-1]:
            raise MethodUnusable(
                f"{self.source}: its adapter branch makes tokens of {self.tokens.shape[-1]}"
                f" channels, {family.name} {parts.variant} reads {text.to_k.in_features}: it was"
                " made for another model"
            )
        pairs: dict[str, Any] = {
            names[int(number)]: pair for number, pair in self.file.build_layers().items()
        }
        return FaceTokens(
            {name: PlacedModule(pair.to_k_ip) for name, pair in pairs.items()},
            {name: PlacedModule(pair.to_v_ip) for name, pair in pairs.items()},
            self.tokens,
            self.negative,
        )


def read_uniid(request: MethodRequest, family: Family, variant: str) -> ReadUniId:
    """Read the branches and the network, and project the face.

    Several references of one person are projected one by one and their tokens averaged (ours; the
    authors read one picture). Raises what a plugin's `read` raises.
    """
    if reason := refuse_others(family, variant):
        raise MethodUnusable(reason)
    options = request.options or UniIdOptions()
    crops = collect_crops(request)
    files = read_branches(request.source, options.branches)
    embeddings, maps = run_network(request.encoder, crops)
    words = image = None
    for name, file in files.items():
        source, projection = request.source / name, file.build_projection().float()
        check_network(source, file, embeddings, maps)
        with torch.no_grad():
            if isinstance(projection, UniIdTextProjection):
                tokens = [part.mean(0, keepdim=True) for part in projection(embeddings, maps[-1])]
                words = FaceWords(tokens, _find_norms(options, request.source, tokens))
            else:
                assert isinstance(projection, UniIdAdapterProjection)
                image = _project(source, file, projection, maps)
    return ReadUniId(request, options, words, image)


def _project(
    source: Path, file: ImageAdapterFile, projection: UniIdAdapterProjection, maps: FaceMapList
) -> ProjectedFace:
    negative: Any = projection.project_negative([plane[:1] for plane in maps])
    return ProjectedFace(source, file, projection(maps).mean(0, keepdim=True), negative)


def _find_norms(
    options: UniIdOptions, source: Path, tokens: Sequence[Tensor]
) -> Sequence[Tensor] | Literal["prompt"] | None:
    if options.norms == "names":
        return read_name_norms(source, tokens[0].shape[1], len(tokens))
    return "prompt" if options.norms == "prompt" else None


def collect_crops(request: MethodRequest) -> Float[Tensor, "b 3 112 112"]:
    """The aligned faces of all references; MethodUnusable, with the file, for one without."""
    if not request.references:
        raise MethodUnusable("uniid needs a picture with the face (--face)")
    crops = []
    for reference in request.references:
        if reference.face is None or reference.face.crop is None:
            raise MethodUnusable(
                f"{reference.path}: uniid reads the aligned face, and this picture came without"
                " one: give a picture in which a face is found"
            )
        crops.append(reference.face.crop)
    return torch.stack(crops)


def read_branches(source: Path, branches: BranchChoice) -> Mapping[str, ImageAdapterFile]:
    """The branches in a folder by name: of a whole checkpoint, or one branch's own folder.

    Raises FileNotFoundError where there is none, or not the one that was asked for, and
    AdapterMismatch as `read_branch`.
    """
    if (source / WEIGHTS).is_file():
        file = read_branch(source)
        kinds = {TEXT if file.kind == "uniid-text" else ADAPTER: file}
        names: Mapping[str, Path] = dict.fromkeys(kinds, source)
    else:
        names = find_branches(source)
        kinds = {name: read_branch(folder) for name, folder in names.items()}
    for name, file in kinds.items():
        if file.kind != {TEXT: "uniid-text", ADAPTER: "uniid-adapter"}[name]:
            raise AdapterMismatch(f"{names[name]} holds the other branch ({file.kind})")
    if branches == "both":
        return kinds
    branch = TEXT if branches == "text" else ADAPTER
    if branch not in kinds:
        raise FileNotFoundError(
            f"branches = {branches!r}, but {source} has no {branch}/{WEIGHTS}; pangly/UniID on"
            " Hugging Face has both"
        )
    return {branch: kinds[branch]}


def run_network(
    encoder: Path | None, crops: Float[Tensor, "b 3 112 112"]
) -> tuple[Float[Tensor, "b d"], FaceMapList]:
    """What the recognition network makes of aligned faces: raw embeddings, maps of its stages.

    MethodUnusable where none was given; raises as the iresnet embedder's `load`, and EmbeddingMixup
    where the network knows no face.
    """
    plugin = EMBEDDERS.load(NETWORK)
    if encoder is None:
        raise MethodUnusable(
            "uniid reads the inside of a recognition network, which no embedding holds: give its"
            f" weights as the encoder (iResNet-100 for the published branches): {plugin.published}"
        )
    network = open_embedder(NETWORK, str(encoder))
    assert isinstance(network, FaceMapEmbedder)
    with torch.no_grad():
        embeddings, maps = network.embed_maps(crops)
    check_norm(embeddings, "raw", str(encoder))
    return embeddings, maps


def check_network(
    source: Path,
    file: ImageAdapterFile,
    embeddings: Float[Tensor, "b d"],
    maps: Sequence[Float[Tensor, "b _ _ _"]],
) -> None:
    """EmbeddingMixup where a branch was trained with a network of other widths."""
    widths = [plane.shape[1] for plane in maps]
    if file.kind == "uniid-text":
        check_width(embeddings.shape[-1], file.embedding, "the encoder", str(source))
        resampler = file.projection["text_resampler_1.proj_in.weight"]
        check_width(widths[-1], resampler.shape[1], "the encoder's last stage", str(source))
        return
    layers = "adapter_resampler.proj_face_recog_model_layers"
    shallow, deep = (file.projection[f"{layers}.{number}.weight"].shape[1] for number in (0, 1))
    check_width(sum(widths[:-1]), shallow, "the encoder's stages before the last", str(source))
    check_width(widths[-1], deep, "the encoder's last stage", str(source))
