"""A real tiny VAE and word embedding, and folders of drawn clips, for the tests of this room."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from frisket.data.cached.store import Cache
from frisket.data.records import Clipset, Masking
from frisket.grid import LatentGrid
from frisket.media.frames import write_image
from frisket.pocket.world import ZIGZAG, draw, random_creature
from frisket.shapes import Clip


class Vae(nn.Module):
    """Folds 2 x 2 pixels into channels and the frames of a causal group into their mean."""

    def __init__(self, grid: LatentGrid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, clip: Tensor) -> Tensor:
        groups = [
            clip[:, :, list(self.grid.frames_of(i))].mean(2)
            for i in range(1 + (clip.shape[2] - 1) // self.grid.temporal)
        ]
        return torch.stack([functional.pixel_unshuffle(group, 2) for group in groups], 2)


class Encoders:
    """Both models; every call of a module is counted by a hook on it."""

    def __init__(self, name: str = "tiny", temporal: int = 1) -> None:
        self.grid = LatentGrid(12, 2, temporal, patch=4)
        self.pixels_record: Mapping[str, str] = {"model": name}
        self.text_record: Mapping[str, str] = {"model": name}
        self.vae, self.text = Vae(self.grid), nn.EmbeddingBag(64, 8)
        self.encoded = self.embedded = self.freed = 0
        self.vae.register_forward_hook(lambda *_: self._count("encoded"))
        self.text.register_forward_hook(lambda *_: self._count("embedded"))

    def _count(self, what: str) -> None:
        setattr(self, what, getattr(self, what) + 1)

    @torch.no_grad()
    def encode(
        self, clip: Clip, references: Sequence[Tensor] = (), keep: Tensor | None = None
    ) -> dict[str, Tensor]:
        seen = {f"reference_{i}": each[None].float() for i, each in enumerate(references)}
        if keep is not None:
            seen["keep"] = keep[None, None]
        return {"latents": self.vae(clip), **seen}

    @torch.no_grad()
    def embed(self, caption: str, references: Sequence[Tensor] = ()) -> dict[str, Tensor]:
        words = [zlib.crc32(word.encode()) % 64 for word in caption.split()] or [0]
        rows = torch.tensor(words)[:, None]
        return {"tokens": self.text(rows)[None], "attention_mask": torch.ones(1, len(words))}

    def free(self) -> None:
        self.freed += 1


@pytest.fixture(scope="session")
def fresh() -> type[Encoders]:
    """Makes encoders whose calls are counted from zero."""
    return Encoders


@pytest.fixture
def encoders() -> Encoders:
    return Encoders()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def draw_clip(folder: Path, number: int, size: int = 32, caption: str = "sks, here, now") -> None:
    """A creature before the zig-zag, its caption, and the mask of the whole creature."""
    scene = random_creature(np.random.RandomState(number), ZIGZAG)
    picture, planes = draw(scene, size)
    for name in ("clips", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_image(folder / "clips" / f"c{number:04d}.png", torch.from_numpy(picture.copy()))
    (folder / "clips" / f"c{number:04d}.txt").write_text(caption, encoding="utf-8")
    draw_mask(folder / "masks" / f"c{number:04d}.png", sum(planes.values()))


def draw_mask(path: Path, plane: object) -> None:
    grey = torch.from_numpy(np.clip(np.asarray(plane) * 255, 0, 255).round().astype(np.uint8))
    write_image(path, grey[..., None].expand(-1, -1, 3).contiguous())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six clips with masks and captions."""
    for number in range(6):
        draw_clip(tmp_path / "set", number)
    return tmp_path / "set"


@pytest.fixture
def clipset() -> Callable[..., Clipset]:
    def make(folder: Path, masking: Mapping[str, object] | None = None, **more: object) -> Clipset:
        how = {"source": "folder", "folders": {"": folder / "masks"}, **(masking or {})}
        return Clipset(folder / "clips", Masking(**how), **{"resolution": 32, **more})

    return make


@pytest.fixture(name="draw_clip")
def _draw_clip() -> Callable[..., None]:
    return draw_clip


@pytest.fixture(name="draw_mask")
def _draw_mask() -> Callable[..., None]:
    return draw_mask
