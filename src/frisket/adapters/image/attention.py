"""Keys and values of image tokens: the layers beside the text's, in the public numbering."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from frisket.adapters.spec import AdapterMismatch

CROSS, SELF = ".attn2.processor", ".attn1.processor"
TRAINED = "frisket_image_adapter"  # the module in a denoiser that an adapter in training is
# What comes last: a loaded resampler's own attention, and IdentityNet's in training.
ELSEWHERE = ("encoder_hid_proj.", f"{TRAINED}.")
MOTION = "motion_modules."


def number_attentions(names: Iterable[str]) -> dict[str, int]:
    """Numbers of attention layers in public files, by the processor's name.

    `names` are the keys of a UNet's `attn_processors` in their order (down, up, mid). Files count
    all layers from 0, so that self-attention is even and the cross-attention after it odd; motion
    modules and what belongs to an adapter that is loaded, or trained, do not count.
    AdapterMismatch where the two do not take turns: then no public numbering is known.
    """
    counted_names = [
        name for name in names if not name.startswith(ELSEWHERE) and MOTION not in name
    ]
    for number, name in enumerate(counted_names):
        if not name.endswith(CROSS if number % 2 else SELF):
            expected_kind = "cross-attention (attn2)" if number % 2 else "self-attention (attn1)"
            raise AdapterMismatch(
                f"{name} is number {number} of this model's attention layers, where public image"
                f" adapters have {expected_kind}; their numbering does not fit this model"
            )
    return {name: number for number, name in enumerate(counted_names)}


class KeyValue(nn.Module):
    """The two projections of image tokens, n d to n i, of one attention layer."""

    def __init__(self, width: int, inner: int, *, bias: bool = False) -> None:
        super().__init__()
        self.to_k_ip = nn.Linear(width, inner, bias=bias)
        self.to_v_ip = nn.Linear(width, inner, bias=bias)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the tokens."""
        return self.to_k_ip(tokens), self.to_v_ip(tokens)


class KeyValues(nn.ModuleDict):
    """The projections of all layers by number: its state dict is a file's `ip_adapter` part.

    `layers` are the inner widths by number; `width` is that of the tokens.
    """

    def __init__(self, width: int, layers: Mapping[int, int], *, bias: bool = False) -> None:
        super().__init__({str(n): KeyValue(width, i, bias=bias) for n, i in layers.items()})

    @classmethod
    def from_shapes(cls, tensors: Mapping[str, Tensor]) -> "KeyValues":
        """One of the sizes that `{number}.to_k_ip.weight` have, its weights still random."""
        keys = [key for key in tensors if key.endswith(".to_k_ip.weight")]
        layers = {int(key.split(".")[0]): tensors[key].shape[0] for key in keys}
        width = tensors[keys[0]].shape[1]
        return cls(width, dict(sorted(layers.items())), bias="to_k_ip.bias" in "".join(tensors))

    def start_from(self, weights: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        """Take over the text's keys and values by number, as the authors start their training.

        The numbers and shapes must be those here; AdapterMismatch names what is not. A bias, where
        there is one, starts at zero.
        """
        if {str(number) for number in weights} != set(self):
            raise AdapterMismatch(
                f"keys and values of layers {sorted(weights)} for an adapter on layers"
                f" {sorted(map(int, self))}"
            )
        with torch.no_grad():
            for number, tensors in weights.items():
                layer = self[str(number)]
                assert isinstance(layer, KeyValue)
                for linear, weight in zip((layer.to_k_ip, layer.to_v_ip), tensors, strict=True):
                    _copy_weight(number, linear, weight)


def _copy_weight(number: int, linear: nn.Linear, weight: Tensor) -> None:
    if linear.weight.shape != weight.shape:
        raise AdapterMismatch(
            f"layer {number}: its key or value is {tuple(weight.shape)}, the adapter's"
            f" {tuple(linear.weight.shape)}"
        )
    linear.weight.copy_(weight)
    if linear.bias is not None:
        linear.bias.zero_()


def read_text_weights(model: Any) -> dict[int, tuple[Tensor, Tensor]]:
    """The text's key and value weights of a UNet's cross-attentions, by public number.

    `model` has `attn_processors`, as diffusers' UNets have. Raises as `number_attentions`.
    """
    numbers = number_attentions(model.attn_processors)
    weights = {}
    for name, number in numbers.items():
        if number % 2:
            layer = model.get_submodule(name.removesuffix(".processor"))
            weights[number] = (layer.to_k.weight.detach(), layer.to_v.weight.detach())
    return weights


def make_key_values(model: Any) -> KeyValues:
    """Projections for a UNet's cross-attentions that begin as copies of the text's own."""
    weights = read_text_weights(model)
    if not weights:
        raise AdapterMismatch(f"{type(model).__name__} has no cross-attention to adapt")
    widths = {key.shape[1] for key, _ in weights.values()}
    if len(widths) > 1:
        raise AdapterMismatch(
            f"the cross-attentions of this {type(model).__name__} read texts of"
            f" {sorted(widths)} channels; the tokens of an image adapter have one width"
        )
    inner = {number: key.shape[0] for number, (key, _) in weights.items()}
    values = KeyValues(widths.pop(), inner)
    values.start_from(weights)
    return values
