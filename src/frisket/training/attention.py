"""The denoiser's attention of one training step, for the terms that need it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from frisket.attention.base import AttentionLayer
from frisket.attention.capture import capture, choose_layers
from frisket.data.sample import Batch
from frisket.families.base import Family
from frisket.families.experts import experts_of
from frisket.losses.base import ATTENTION, AttentionMaps, AttentionRequest, AttentionTerm, LossTerm

MapsByRequest = Mapping[AttentionRequest, AttentionMaps]


def list_requests(terms: Mapping[str, tuple[LossTerm, float]]) -> tuple[AttentionRequest, ...]:
    """What the terms ask to see, each once; TypeError for one that does not say which."""
    requests: dict[AttentionRequest, None] = {}
    for name, (term, _) in terms.items():
        if ATTENTION not in term.needs:
            continue
        if not isinstance(term, AttentionTerm):
            raise TypeError(
                f'{name}: needs "attention" but has no `attention`, the AttentionRequest that says'
                " which (frisket.losses.base.AttentionTerm)"
            )
        requests[term.attention] = None
    return tuple(requests)


@dataclass(frozen=True, slots=True)
class AttentionWatch:
    """Sees what the terms ask for while the denoiser runs; nothing is hooked in between.

    `layers` are those of each request, of all experts (one of them runs); `regions` says which
    plane of the coverage each phrase of a batch is of.
    """

    layers: Mapping[AttentionRequest, tuple[AttentionLayer, ...]]
    regions: tuple[int, ...]

    @contextmanager
    def watch(self, batch: Batch) -> Iterator[Callable[[], MapsByRequest]]:
        """Capture the forward pass within; what is handed over gives the maps after it.

        Nothing is computed where no term asks. ValueError for a batch without phrases, and where
        a layer was not called or no gradient reaches its attention, by name.
        """
        if self.layers and not batch.phrases:
            raise ValueError(
                "a loss term reads the attention to phrases, and the batch has none: give the"
                ' regions theirs ([regions.name] phrase = "...")'
            )
        # Phrases that are no region's (the adapter's own words) come after those.
        phrases = [sample[: len(self.regions)] for sample in batch.phrases]
        with ExitStack() as stack:
            watched = {
                request: stack.enter_context(capture(layers, phrases, softmax=request.softmax))
                for request, layers in self.layers.items()
            }
            flags = [[bool(positions) for positions in sample] for sample in phrases]

            def collect() -> MapsByRequest:
                return {
                    request: AttentionMaps(
                        maps=_check_maps(captured.maps, self.layers[request]),
                        known=torch.tensor(flags, device=batch.coverage.device),
                        regions=self.regions,
                    )
                    for request, captured in watched.items()
                }

            yield collect


def watch_layers(
    family: Family,
    denoiser: nn.Module,
    terms: Mapping[str, tuple[LossTerm, float]],
    regions: Sequence[int] = (),
) -> AttentionWatch:
    """A watch for what the terms ask, over an adapted denoiser without a wrapper around it.

    Of experts all that are loaded are watched.

    ValueError for a layer that there is not, and for a family that does not name its layers.
    """
    layers: dict[AttentionRequest, tuple[AttentionLayer, ...]] = {}
    for request in list_requests(terms):
        layers[request] = tuple(
            layer
            for expert in experts_of(denoiser).values()
            for layer in choose_layers(family.list_attention_layers(expert), request.layers)
        )
    return AttentionWatch(layers, tuple(regions))


def _check_maps(
    maps: Mapping[str, torch.Tensor], layers: Sequence[AttentionLayer]
) -> Mapping[str, torch.Tensor]:
    if missing := sorted({layer.name for layer in layers} - set(maps)):
        raise ValueError(
            f"the attention of {', '.join(missing)} was not seen in this step (a block that is"
            " skipped or routed past): choose other layers for losses.attention"
        )
    still = [name for name, tensor in maps.items() if not tensor.requires_grad]
    if still and torch.is_grad_enabled():
        raise ValueError(
            f"nothing that is trained moves the attention of {', '.join(still)}: put the adapter on"
            " to_q and to_k there (lora.targets), or choose other layers for losses.attention"
        )
    return maps
