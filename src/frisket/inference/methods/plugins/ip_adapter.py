"""IP-Adapter (arXiv 2308.06721): a picture beside the prompt, in an attention of its own."""

from dataclasses import dataclass

from frisket.adapters.image.layouts import ImageAdapterKind
from frisket.families.base import Family
from frisket.inference.methods.identity.adapter_layers import refuse_places
from frisket.inference.methods.identity.reference_method import ReadImageAdapter, read_request
from frisket.inference.methods.plugin import MethodPlugin, MethodRequest
from frisket.licence import Licence

KINDS: tuple[ImageAdapterKind, ...] = ("base", "plus", "full", "xlabs-flux", "instantx-sd3")


@dataclass(frozen=True, slots=True)
class IpAdapterOptions:
    """IP-Adapter has no options of its own."""


def read(request: MethodRequest, family: Family, variant: str) -> ReadImageAdapter:
    """The file, and its references' tokens; raises as `read_request`."""
    return read_request(request, family, variant, kinds=KINDS)


METHOD = MethodPlugin(
    summary="a picture of a person, a thing or a style guides the sample beside the prompt",
    reads="picture",
    files=(
        "a file of IP-Adapter: ip-adapter_sd15, -plus, -plus-face, -full-face or _sdxl; XLabs' for"
        " FLUX, InstantX's for SD3.5; or one that Frisket trained, for any family"
    ),
    published="h94/IP-Adapter, XLabs-AI/flux-ip-adapter, InstantX/SD3.5-Large-IP-Adapter",
    licence=Licence(
        code="Apache-2.0",
        weights=(
            "h94/IP-Adapter: Apache-2.0; XLabs-AI/flux-ip-adapter: FLUX.1-dev non-commercial;"
            " InstantX/SD3.5-Large-IP-Adapter: Stability AI community licence"
        ),
    ),
    refuse=refuse_places,
    read=read,
    options=IpAdapterOptions,
    encoder=(
        "the folder of the CLIP (SD3.5: SigLIP) that the file was trained with, as transformers has"
        " it: h94/IP-Adapter models/image_encoder, or sdxl_models/image_encoder for"
        " ip-adapter_sdxl; openai/clip-vit-large-patch14 (FLUX);"
        " google/siglip-so400m-patch14-384 (SD3.5)"
    ),
    trains="projection, keys and values, with the masked loss",
)
