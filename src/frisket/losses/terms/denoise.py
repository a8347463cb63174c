"""The denoising error under the weights: what the masked regions are taught."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch.nn import functional

from frisket.losses.base import Step, weighted_mean, weighted_mse
from frisket.shapes import PerSample


@dataclass(frozen=True, slots=True)
class Denoise:
    """sum(error * w) / divisor; the error is that of prediction and target.

    kind: mse, l1, huber (0.5 d^2 below `delta`, delta (|d| - delta/2) above) or smooth_l1 (huber /
    delta). L1 and Huber soften the spikes that mask borders make.
    """

    kind: Literal["mse", "l1", "huber", "smooth_l1"] = "mse"
    delta: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        """Refuse options that have no meaning."""
        if self.kind not in ("mse", "l1", "huber", "smooth_l1"):
            raise ValueError(f"denoise: kind {self.kind!r} is not one of mse, l1, huber, smooth_l1")
        if self.delta <= 0:
            raise ValueError(f"denoise: delta must be > 0, got {self.delta}")

    def __call__(self, step: Step) -> PerSample:
        """Weighted error of each sample, float32."""
        if self.kind == "mse":
            return weighted_mse(step.prediction, step.target, step.weights, step.divisor)
        prediction, target = step.prediction.float(), step.target.float()
        if self.kind == "l1":
            error = functional.l1_loss(prediction, target, reduction="none")
        elif self.kind == "huber":
            error = functional.huber_loss(prediction, target, reduction="none", delta=self.delta)
        else:
            error = functional.smooth_l1_loss(prediction, target, reduction="none", beta=self.delta)
        return weighted_mean(error, step.weights, step.divisor)


TERM = Denoise
