"""How far noise levels are pushed towards noise, where that depends on the size of the clip."""

import math
from dataclasses import dataclass

Cells = tuple[int, int, int]  # latent f h w of a batch


@dataclass(frozen=True, slots=True)
class SizeShift:
    """e^mu, mu linear in the number of tokens: `low` at `few` of them, `high` at `many`.

    As diffusers' pipelines compute it (`calculate_shift`, then FlowMatchEulerDiscreteScheduler's
    exponential `time_shift`), and as BFL's release of FLUX.1 (`get_lin_function`, `time_shift`):
    larger pictures need more noise to be destroyed as much (Esser et al. 2024, section 5.3.2). The
    line goes on beyond both its ends. `patch` is how many cells a token is wide and high.
    """

    low: float = 0.5
    high: float = 1.15
    few: int = 256
    many: int = 4096
    patch: int = 2

    def at(self, cells: Cells) -> float:
        """The shift of a batch whose latents are f x h x w cells, > 0; 1 pushes nowhere."""
        frames, height, width = cells
        tokens = frames * (height // self.patch) * (width // self.patch)
        slope = (self.high - self.low) / (self.many - self.few)
        return math.exp(self.low + slope * (tokens - self.few))


FLUX = SizeShift()  # FLUX.1, and the defaults of diffusers' scheduler
