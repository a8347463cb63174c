"""Keys and values of an image adapter's modules as the attention layers of a model take them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from frisket.adapters.image.attention import KeyValue, KeyValues
from frisket.adapters.spec import AdapterMismatch
from frisket.inference.methods.identity.image_attention import Projection


@dataclass(frozen=True, slots=True)
class TokenLayers:
    """Projections of image tokens by the name of a model's layer."""

    keys: Mapping[str, Projection]
    values: Mapping[str, Projection]


def name_layers(layers: KeyValues, names: Mapping[int, str]) -> TokenLayers:
    """An adapter's modules by the names of a model's layers (`number_layers`), gradients kept.

    AdapterMismatch where the model has other numbers.
    """
    if set(layers) != {str(number) for number in names}:
        raise AdapterMismatch(
            f"the adapter has keys and values of {len(layers)} attention layers, the last number"
            f" {max(map(int, layers), default=0)}; this model has {len(names)}, the last"
            f" {max(names, default=0)}: it was made for another model"
        )
    pairs = {names[int(number)]: pair for number, pair in layers.items()}
    keys, values = {}, {}
    for name, pair in pairs.items():
        assert isinstance(pair, KeyValue)
        keys[name] = partial(project_tokens, pair.to_k_ip)
        values[name] = partial(project_tokens, pair.to_v_ip)
    return TokenLayers(keys, values)


def project_tokens(linear: nn.Linear, tokens: Float[Tensor, "r t c"]) -> Float[Tensor, "r t i"]:
    """The projection in its weights' dtype, whatever the model's, given back in the tokens'.

    The weights come to where the tokens are, once.
    """
    if linear.weight.device != tokens.device:
        linear.to(tokens.device)
    projected = functional.linear(tokens.to(linear.weight.dtype), linear.weight, linear.bias)
    return projected.to(tokens.dtype)


def find_misfit(layers: KeyValues, names: Mapping[int, str], model: nn.Module) -> str:
    """A layer whose keys are not as wide as the model's queries, in words; empty where none is."""
    for number, name in names.items():
        pair = layers[str(number)]
        assert isinstance(pair, KeyValue)
        query: Any = model.get_submodule(f"{name}.to_q")
        widths = pair.to_k_ip.out_features, query.out_features
        if widths[0] != widths[1]:
            return (
                f"layer {number} ({name}) has {widths[0]} channels in the adapter and {widths[1]}"
                " in the model"
            )
    return ""
