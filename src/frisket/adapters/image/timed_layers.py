"""Attention layers of InstantX's adapters for SD3: keys and values that know the time."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.spec import AdapterMismatch

EPSILON = 1e-6  # of all its norms: a constant of the format, no tensor says it
Projected = tuple[Tensor, Tensor, Tensor]  # query, key and value of the picture: b n heads d


class TimedNorm(nn.Module):
    """Layer norm whose shift and scale are linear in the SiLU of the time's embedding."""

    def __init__(self, time: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(time, 2 * width)

    def forward(
        self, tokens: Float[Tensor, "b t c"], time: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b t c"]:
        """The tokens, normed and modulated."""
        shift, scale = self.linear(F.silu(time))[:, None].chunk(2, dim=-1)
        return F.layer_norm(tokens, tokens.shape[-1:], eps=EPSILON) * (1 + scale) + shift


class TimedAttention(nn.Module):
    """One layer: the picture attends to itself and to the image's tokens, in one softmax.

    Queries and keys of the picture are the model's projections under norms of the adapter's own.
    Equal to diffusers' SD3IPAdapterJointAttnProcessor2_0 before it is scaled and added.
    """

    def __init__(self, width: int, inner: int, *, head: int, time: int) -> None:
        super().__init__()
        self.norm_ip = TimedNorm(time, width)
        self.to_k_ip = nn.Linear(width, inner, bias=False)
        self.to_v_ip = nn.Linear(width, inner, bias=False)
        for name in ("norm_q", "norm_k", "norm_ip_k"):
            self.add_module(name, nn.RMSNorm(head, EPSILON))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "TimedAttention":
        """One with the tensors of a layer, by their names in it, in their dtype.

        AdapterMismatch where they are not all, or of other shapes.
        """
        try:
            inner, width = tensors["to_k_ip.weight"].shape
            head, time = len(tensors["norm_q.weight"]), tensors["norm_ip.linear.weight"].shape[1]
            layer = cls(width, inner, head=head, time=time)
            layer.to(tensors["to_k_ip.weight"].dtype).load_state_dict(dict(tensors))
        except (KeyError, ValueError, IndexError, RuntimeError) as error:
            raise AdapterMismatch(
                f"an attention layer of instantx-sd3 has {', '.join(sorted(tensors))}, which do not"
                f" make one: {' '.join(str(error).split())}"
            ) from error
        return layer

    def forward(
        self,
        projected: Projected,
        tokens: Float[Tensor, "b t c"],
        time: Float[Tensor, "b e"],
    ) -> Float[Tensor, "b n heads d"]:
        """What the picture's queries read."""
        query, key, value = projected
        tokens = self.norm_ip(tokens, time)
        heads = query.shape[-2:]
        image_key = self.get_submodule("norm_ip_k")(self.to_k_ip(tokens).unflatten(-1, heads))
        image_value = self.to_v_ip(tokens).unflatten(-1, heads)
        query, key = self.get_submodule("norm_q")(query), self.get_submodule("norm_k")(key)
        keys, values = torch.cat([key, image_key], 1), torch.cat([value, image_value], 1)
        query, keys, values = (tensor.transpose(1, 2) for tensor in (query, keys, values))
        return F.scaled_dot_product_attention(query, keys, values).transpose(1, 2)
