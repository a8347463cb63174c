"""Which attention layer of a model a number in an image adapter's file means."""

from torch import nn

from frisket.adapters.image.attention import number_attentions
from frisket.adapters.spec import AdapterMismatch
from frisket.adapters.targets import unwrap_model
from frisket.attention.base import AttentionLayer
from frisket.families.base import Family
from frisket.families.experts import experts_of

UNET_PARTS = ("down_blocks.", "mid_block.", "up_blocks.")
PROCESSOR = ".processor"


def list_places(family: Family, denoiser: nn.Module) -> dict[str, AttentionLayer]:
    """The attention layers that an image adapter can join, by name, in the forward's order.

    Of `Experts` those of the first: all have the same names.
    """
    model = unwrap_model(next(iter(experts_of(denoiser).values())))
    layers = family.list_attention_layers(model)
    return {layer.name: layer for layer in layers if layer.add_branch is not None}


def number_layers(family: Family, denoiser: nn.Module) -> dict[int, str]:
    """Names of the attention layers (`AttentionLayer.name`) by their numbers in files.

    UNets: the odd numbers of the public files, counted as `number_attentions` does. Transformers:
    0, 1, 2, ... in the order of the forward pass, layers without a place for a second attention not
    counted; of FLUX and SD3 that is XLabs' and InstantX's numbering, of the others ours.
    AdapterMismatch for a model without a place, and for a UNet whose layers are not in the public
    order.
    """
    places = list_places(family, denoiser)
    if not places:
        raise AdapterMismatch(f"no attention layer of {family.name} has a place for image adapters")
    if not all(name.startswith(UNET_PARTS) for name in places):
        return dict(enumerate(places))
    model = unwrap_model(next(iter(experts_of(denoiser).values())))
    numbers = number_attentions(model.attn_processors)  # type: ignore[arg-type]
    names = {number: name.removesuffix(PROCESSOR) for name, number in numbers.items()}
    return {number: name for number, name in names.items() if name in places}
