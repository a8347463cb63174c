"""Where frozen weights wait on the CPU: page-locked memory, taken in large pieces."""

import logging
from dataclasses import dataclass, field

import torch
from torch import Tensor

log = logging.getLogger(__name__)

SLAB = 1 << 27  # bytes of a piece, a power of two; a larger tensor gets the next power of its own
ALIGNED = 256  # bytes; what a copy engine likes, and a multiple of every element size


@dataclass(slots=True)
class Waiting:
    """Copies of tensors on the CPU, page-locked with `pin`, so that they travel beside the work.

    torch rounds every page-locked piece up to a power of two (a weight of 75 MB takes 128), which
    for a whole model is a third on top. So the pieces are powers of two here, and tensors lie in
    them one behind the other, wherever there is room. They are kept as long as any copy is.
    """

    pin: bool
    slab: int = SLAB
    pieces: list[Tensor] = field(default_factory=list)
    used: list[int] = field(default_factory=list)  # bytes of each piece

    @property
    def nbytes(self) -> int:
        """All that was taken, in bytes."""
        return sum(piece.numel() for piece in self.pieces)

    def copy(self, tensor: Tensor) -> Tensor:
        """A copy with the same values, shape and strides (which leave no gaps)."""
        size = tensor.numel() * tensor.element_size()
        index = self._room(size)
        start = self.used[index]
        self.used[index] = -(-(start + size) // ALIGNED) * ALIGNED
        copy = torch.empty(0, dtype=tensor.dtype).set_(
            self.pieces[index].untyped_storage(),
            start // tensor.element_size(),
            tensor.shape,
            tensor.stride(),
        )
        return copy.copy_(tensor.detach())

    def _room(self, size: int) -> int:
        """A piece with room for so many bytes; a new one where there is none."""
        for index, piece in enumerate(self.pieces):
            if self.used[index] + size <= piece.numel():
                return index
        least = 1 << max(size - 1, 0).bit_length()
        # Without page-locking nothing is rounded: each tensor takes what it needs.
        whole = max(self.slab, least) if self.pin else size
        self.pieces.append(self._piece(whole))
        self.used.append(0)
        return len(self.pieces) - 1

    def _piece(self, size: int) -> Tensor:
        """Page-locked where the driver grants it; said once where it does not."""
        if self.pin and _driver_is_here():
            try:
                return torch.empty(size, dtype=torch.uint8, pin_memory=True)
            except RuntimeError as error:
                log.warning(
                    "memory.swap_blocks: %.1f GiB of main memory are page-locked, and the system"
                    " grants no more (%s); the other blocks come to the card more slowly",
                    self.nbytes / 2**30,
                    str(error).partition("\n")[0],
                )
                self.pin = False
        return torch.empty(size, dtype=torch.uint8)


def _driver_is_here() -> bool:
    return torch.cuda.is_available()
