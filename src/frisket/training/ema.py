"""A slow average of the adapter's weights, to be sampled and saved in place of the last ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn


class Average:
    """Exponential moving average of named parameters, in float32 and on their own device.

    The decay rises as (1 + n) / (10 + n) up to `decay` (diffusers' `EMAModel`, which does the
    averaging), so the first steps of a short run do not hold the average back.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        """Start from the parameters as they are; `decay` in (0, 1)."""
        if not 0 < decay < 1:
            raise ValueError(f"optimizer.ema must lie between 0 and 1, got {decay}")
        self._parameters = dict(parameters)
        self._model = EMAModel(parameters.values(), decay=decay)
        self._model.to(dtype=torch.float32)

    @property
    def shadows(self) -> dict[str, Tensor]:
        """The averaged weights by name, float32."""
        return dict(zip(self._parameters, self._model.shadow_params, strict=True))

    @property
    def steps(self) -> int:
        """Updates taken in so far."""
        return int(self._model.optimization_step)

    def update(self, step: int) -> None:
        """Take the weights in after optimizer step `step` (1 is the first).

        Raises ValueError when a step is left out or taken twice: the average would not be that of
        an uninterrupted run.
        """
        if step != self.steps + 1:
            raise ValueError(
                f"ema: step {step} follows step {self.steps}; the average must see every step once"
            )
        self._model.step(self._parameters.values())

    @contextmanager
    def apply(self) -> Iterator[None]:
        """Put the average in the place of the weights; leaving restores them bit for bit."""
        own = list(self._parameters.values())
        kept = [p.detach().clone() for p in own]
        self._model.copy_to(own)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(own, kept, strict=True):
                    parameter.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """The step and the averaged weights by name (references, as torch's own state dicts)."""
        return {"step": self.steps, "shadows": self.shadows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; the decay stays this run's own.

        Raises ValueError, changing nothing, when the state is of another adapter.
        """
        shadows: Mapping[str, Tensor] = state["shadows"]
        for name in sorted({*self._parameters, *shadows}):
            saved, own = (
                tuple(table[name].shape) if name in table else None
                for table in (shadows, self.shadows)
            )
            if saved != own:
                raise ValueError(
                    f"ema: {name} is {saved or 'not'} in the checkpoint and {own or 'not'} in the"
                    " adapter: it was saved with another lora.rank or other lora.targets"
                )
        for name, shadow in self.shadows.items():
            shadow.copy_(shadows[name])
        self._model.optimization_step = int(state["step"])


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode, restored after."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
