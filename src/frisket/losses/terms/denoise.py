"""The denoising error under the weights: what the masked regions are taught."""

from dataclasses import dataclass
from typing import ClassVar

from frisket.losses.base import ErrorKind, Step, check_kind, weighted_error
from frisket.shapes import PerSample


@dataclass(frozen=True, slots=True)
class Denoise:
    """sum(error * w) / divisor; the error is that of prediction and target.

    kind: mse, l1, huber (0.5 d^2 below `delta`, delta (|d| - delta/2) above) or smooth_l1 (huber /
    delta). L1 and Huber soften the spikes that mask borders make.
    """

    kind: ErrorKind = "mse"
    delta: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        """Refuse options that have no meaning."""
        check_kind("denoise", self.kind, self.delta)

    def __call__(self, step: Step) -> PerSample:
        """Weighted error of each sample, float32."""
        prediction, target = step.prediction, step.target
        return weighted_error(self.kind, self.delta, prediction, target, step.weights, step.divisor)


TERM = Denoise
