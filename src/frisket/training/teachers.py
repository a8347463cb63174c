"""What the models that are not trained predict of a step, for the terms that stay with them."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from frisket.adapters import lora
from frisket.families.base import Conditioning, Family
from frisket.losses.base import BASE, CONTROLLED, EMA
from frisket.shapes import Latents, PerSample
from frisket.training.ema import Average, evaluating


@dataclass(frozen=True, slots=True, eq=False)
class Teachers:
    """The frozen base, beside its ControlNet where one is on, and the averaged adapter."""

    family: Family
    denoiser: nn.Module
    accelerator: Accelerator
    average: Average | None

    def predict(
        self, needs: Collection[str], noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> dict[str, Latents]:
        """Predictions by the needs that ask for one: eval mode, no gradient, none made twice.

        A frozen ControlNet is no part of the denoiser: it adds to the base what it adds in this
        step, so that BASE and CONTROLLED are one prediction where there is one.
        """
        frozen = partial(lora.frozen, self.denoiser)
        contexts: dict[str, Callable[[], AbstractContextManager[Any]]]
        contexts = {BASE: frozen, CONTROLLED: frozen, EMA: self._use_average}
        need_contexts = {need: contexts[need] for need in sorted(contexts) if need in needs}
        predictions = {
            context: self._predict(context, noisy, t, conditioning)
            for context in dict.fromkeys(need_contexts.values())
        }
        return {need: predictions[context] for need, context in need_contexts.items()}

    def _predict(
        self,
        context: Callable[[], AbstractContextManager[Any]],
        noisy: Latents,
        t: PerSample,
        conditioning: Conditioning,
    ) -> Latents:
        # A region of its own: autocast keeps the weights it has cast, by parameter, until it is
        # left, and the student would train on the teacher's.
        with torch.no_grad(), context(), self.accelerator.autocast():
            prediction = self.family.predict(self.denoiser, noisy, t, conditioning).detach()
        torch.clear_autocast_cache()  # a caller's own region may be open around ours
        return prediction

    @contextmanager
    def _use_average(self) -> Iterator[None]:
        assert self.average is not None  # refused when the trainer was built
        with self.average.apply(), evaluating(self.denoiser):
            yield
