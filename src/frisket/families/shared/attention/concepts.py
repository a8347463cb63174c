"""ConceptAttention for FLUX.1: concepts beside the prompt, which the picture never sees."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from frisket.attention.base import Projections
from frisket.attention.capture import AttentionRecord, choose_layers
from frisket.families.base import Family
from frisket.families.shared.attention.double_stream import list_flux_layers
from frisket.families.shared.attention.taps import bind_arguments


def embed_concepts(
    family: Family, text: nn.Module, words: Sequence[str]
) -> tuple[Float[Tensor, "C d"], Float[Tensor, " p"]]:
    """One token a concept (the first of its word alone) and a pooled vector of zeros, as theirs."""
    conditioning = family.embed(text, words)
    return conditioning["text"][:, 0], torch.zeros_like(conditioning["pooled"][0])


@contextmanager
def capture_concepts(
    denoiser: nn.Module,
    concepts: Float[Tensor, "C d"],
    pooled: Float[Tensor, " p"],
    layers: str | Sequence[str] = "all",
) -> Iterator[AttentionRecord]:
    """Record, for each double block, the saliency b C f h w of each concept, without gradients.

    Helbling et al. 2025 (arXiv 2502.04320): the concepts go through the text's own weights, attend
    to each other and to the picture (never to the prompt), and nothing attends to them. Saliency is
    the dot product of what attention gave a concept and a cell, before the out projection, over all
    heads and not scaled. `frisket.attention.maps.average` and then `compare_phrases` make their
    heat maps. One small pass of C tokens for each double block up to the last of `layers`.

    ValueError for a model that is no FLUX.1 transformer, and for unknown layers.
    """
    if type(denoiser).__name__ != "FluxTransformer2DModel":
        raise ValueError(
            f"concepts beside the prompt are for FLUX.1; {type(denoiser).__name__} has none:"
            " capture tokens of the prompt instead (frisket.attention.capture, form 'output')"
        )
    double = [layer for layer in list_flux_layers(denoiser) if layer.name[0] == "t"]
    chosen_names = {layer.name for layer in choose_layers(double, layers)}
    last = max(index for index, layer in enumerate(double) if layer.name in chosen_names)
    record = AttentionRecord()
    model: Any = denoiser
    stream = ConceptStream(model, concepts, pooled)

    def listen(index: int, name: str) -> Callable[[Projections], None]:
        @torch.no_grad()
        def receive(projections: Projections) -> None:
            maps = stream.pass_block(model.transformer_blocks[index], projections)
            if name in chosen_names:
                record.add(name, maps.unflatten(2, projections.cells), projections.timestep)

        return receive

    with ExitStack() as stack:
        handle = denoiser.register_forward_pre_hook(stream.begin, with_kwargs=True)
        stack.callback(handle.remove)
        for index, layer in enumerate(double[: last + 1]):
            stack.callback(layer.tap(listen(index, layer.name)))
        yield record


class ConceptStream:
    """The concepts' own text stream through the double blocks of one forward pass."""

    def __init__(self, model: Any, concepts: Tensor, pooled: Tensor) -> None:
        """`concepts` C d as the text encoder gave them, `pooled` p."""
        self.model = model
        self.concepts, self.pooled = concepts, pooled
        self.states: Tensor = concepts
        self.time: Tensor = pooled

    @torch.no_grad()
    def begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Before a forward pass: the concepts as tokens, and its noise level as the text has it."""
        inputs = bind_arguments(module, args, kwargs)
        states: Tensor = inputs["hidden_states"]
        batch, dtype = len(states), self.model.transformer_blocks[0].attn.norm_q.weight.dtype
        concepts = self.concepts.to(states.device, dtype).expand(batch, -1, -1)
        self.states = self.model.context_embedder(concepts)
        levels = [inputs["timestep"].to(dtype) * 1000]
        if inputs.get("guidance") is not None:
            levels.append(inputs["guidance"].to(dtype) * 1000)
        pooled = self.pooled.to(states.device, dtype).expand(batch, -1)
        self.time = self.model.time_text_embed(*levels, pooled)

    def pass_block(self, block: Any, projections: Projections) -> Float[Tensor, "b C n"]:
        """Saliency of the concepts in one block, and the concepts as the next one takes them.

        Concepts stand at position 0, where a rotary embedding turns nothing.
        """
        attention, image = block.attn, projections.image
        assert image is not None
        assert projections.image_output is not None
        states, gate, shift, scale, feed_gate = block.norm1_context(self.states, emb=self.time)
        query, key, value = (
            project(states).unflatten(-1, (-1, attention.head_dim))
            for project in (attention.add_q_proj, attention.add_k_proj, attention.add_v_proj)
        )
        query, key = attention.norm_added_q(query), attention.norm_added_k(key)
        output = functional.scaled_dot_product_attention(
            query.transpose(1, 2),
            torch.cat([key, projections.key[:, image]], 1).transpose(1, 2),
            torch.cat([value, projections.value[:, image]], 1).transpose(1, 2),
        )
        output = output.transpose(1, 2).flatten(2)
        self.states = self.states + gate.unsqueeze(1) * attention.to_add_out(output)
        states = block.norm2_context(self.states) * (1 + scale[:, None]) + shift[:, None]
        self.states = self.states + feed_gate.unsqueeze(1) * block.ff_context(states)
        return output.float() @ projections.image_output.float().mT
