"""How far noise levels are pushed towards noise, where that depends on the size of the clip."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from frisket.shapes import Cells


@dataclass(frozen=True, slots=True)
class SizeShift:
    """e^mu, mu linear in the number of tokens: `low` at `few` of them, `high` at `many`.

    As diffusers' pipelines compute it (`calculate_shift`, then FlowMatchEulerDiscreteScheduler's
    exponential `time_shift`), and as BFL's release of FLUX.1 (`get_lin_function`, `time_shift`):
    larger pictures need more noise to be destroyed as much (Esser et al. 2024, section 5.3.2). The
    line goes on beyond both its ends. `patch` is how many cells a token is wide and high; `frames`
    says whether those of a video count, or those of one of its frames alone.
    """

    low: float = 0.5
    high: float = 1.15
    few: int = 256
    many: int = 4096
    patch: int = 2
    frames: bool = True

    def at(self, cells: Cells) -> float:
        """The shift of a batch whose latents are f x h x w cells, > 0; 1 pushes nowhere."""
        frames, height, width = cells
        tokens = (height // self.patch) * (width // self.patch) * (frames if self.frames else 1)
        slope = (self.high - self.low) / (self.many - self.few)
        return math.exp(self.low + slope * (tokens - self.few))


FLUX = SizeShift()  # FLUX.1, and the defaults of diffusers' scheduler
# By the names that trainers have for them (musubi-tuner's --timestep_sampling), which take the law
# on whatever model, and of a video one frame; `flux_shift_video` is SimpleTuner's, of all frames.
LAWS: Mapping[str, SizeShift] = {
    "flux_shift": SizeShift(frames=False),
    "flux2_shift": SizeShift(patch=1, frames=False),
    "qwen_shift": SizeShift(high=0.9, many=8192, frames=False),
    "krea2_shift": SizeShift(many=6400, frames=False),
    "flux_shift_video": FLUX,
}


def push(t: float, shift: float) -> float:
    """One noise level after the shift (Esser et al. 2024, eq. 23)."""
    return shift * t / (1 + (shift - 1) * t)


def pull(t: float, shift: float) -> float:
    """The noise level that `push` brings to `t`."""
    return push(t, 1 / shift)
