"""IP-Adapter FaceID: a face's embedding in place of a picture, with a LoRA beside (h94)."""

from dataclasses import dataclass
from typing import Literal

from frisket.adapters.image.layouts import ImageAdapterKind
from frisket.families.base import Family
from frisket.inference.methods.identity.adapter_layers import refuse_places
from frisket.inference.methods.identity.reference_method import ReadImageAdapter, read_request
from frisket.inference.methods.plugin import MethodPlugin, MethodRequest
from frisket.licence import Licence

KINDS: tuple[ImageAdapterKind, ...] = ("faceid", "faceid-plus", "faceid-plusv2")


@dataclass(frozen=True, slots=True)
class FaceIdOptions:
    """What FaceID has of its own.

    `kind` says the version of a FaceID-Plus file that is not called plusv2. `combination`: the
    faces of one person become a "mean" face (embeddings averaged, length one), or "join": each has
    tokens of its own (as the portrait files were trained). `structure` weighs CLIP's part in plusv2
    (the authors' s_scale). `lora` is the strength of the file's LoRA: theirs is 1 whatever the
    scale.
    """

    kind: Literal["", "faceid-plus", "faceid-plusv2"] = ""
    combination: Literal["mean", "join"] = "mean"
    structure: float = 1.0
    lora: float = 1.0


def read(request: MethodRequest, family: Family, variant: str) -> ReadImageAdapter:
    """The file, and its faces' tokens; raises as `read_request`."""
    options = request.options or FaceIdOptions()
    return read_request(
        request,
        family,
        variant,
        kinds=KINDS,
        kind=options.kind or None,
        combination=options.combination,
        structure=options.structure,
        lora_scale=options.lora,
    )


METHOD = MethodPlugin(
    summary="a face keeps its likeness: IP-Adapter on a recognition network's embedding",
    reads="face and key points",
    files=(
        "a file of IP-Adapter-FaceID: ip-adapter-faceid_sd15 or _sdxl, -plus_sd15, -plusv2_sd15 or"
        " _sdxl, -portrait; or one that Frisket trained, for any family"
    ),
    published="h94/IP-Adapter-FaceID",
    licence=Licence(
        code="Apache-2.0",
        weights="h94/IP-Adapter-FaceID: non-commercial, by InsightFace's models",
        warning=(
            "the published FaceID files were trained with InsightFace's models, which are for"
            " non-commercial research alone"
        ),
    ),
    refuse=refuse_places,
    read=read,
    options=FaceIdOptions,
    encoder="for the plus files: the folder of CLIP ViT-H (h94/IP-Adapter models/image_encoder)",
    trains="projection, keys and values, with the masked loss (no LoRA)",
)
