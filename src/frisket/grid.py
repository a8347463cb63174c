"""The latent grid: the pixels and frames that stand behind one latent cell."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LatentGrid:
    """Strides of a family's VAE.

    A causal video VAE keeps the first frame alone and folds every further `temporal` frames into
    one latent frame, so F frames give `1 + (F - 1) / temporal` latent frames. `patch` is the
    denoiser's patch size in cells: pictures are cut to multiples of `spatial * patch`.
    """

    channels: int
    spatial: int
    temporal: int = 1
    patch: int = 2

    @property
    def step(self) -> int:
        """Pixels a side must be a multiple of, so that latents cut into whole patches."""
        return self.spatial * self.patch

    def cells(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent (f, h, w) of a clip of F x H x W pixels; ValueError where it does not fit."""
        if frames < 1 or (frames - 1) % self.temporal:
            raise ValueError(
                f"{frames} frames do not fit the latent grid: it takes 1 + n * {self.temporal}"
                f" frames (nearest below: {self.fit_frames(max(frames, 1))})"
            )
        if (
            height < self.spatial
            or width < self.spatial
            or height % self.spatial
            or width % self.spatial
        ):
            raise ValueError(
                f"{height} x {width} pixels do not fit the latent grid: sides are multiples of"
                f" {self.spatial}"
            )
        return 1 + (frames - 1) // self.temporal, height // self.spatial, width // self.spatial

    def fit_frames(self, frames: int) -> int:
        """The largest frame count of at most `frames` that the grid takes."""
        return frames - (frames - 1) % self.temporal

    def frames_of(self, index: int) -> range:
        """The pixel frames behind latent frame `index` (the causal time rule)."""
        if index == 0:
            return range(1)
        return range(1 + (index - 1) * self.temporal, 1 + index * self.temporal)
