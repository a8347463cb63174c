"""An image adapter of faces for the base, taught by the masked loss, and what puts it to work."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.identity.people import VIEWS, Portrait, list_corpus
from benchmarks.identity.reading import embed_pictures, lay_pixels
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from frisket.adapters.image.adapter import ImageAdapterModules
from frisket.adapters.image.attention import number_attentions
from frisket.adapters.image.files import read_image_adapter, write_image_adapter
from frisket.adapters.image.projections import FaceProjection
from frisket.disk.atomic import replacing
from frisket.families.base import FAMILIES, Parts, Source
from frisket.inference.methods.identity.image_attention import (
    Attend,
    ImageAdapter,
    ImageAttention,
    MergeBranch,
    RowOwners,
    attend_plainly,
)
from frisket.losses.base import weighted_mse

FAMILY = FAMILIES.load("pocket")
STEPS, BATCH, RATE, WARM = 500, 8, 1e-3, 50
DROPPED = 0.1  # share of rows without a condition, and of rows without a caption


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a corpus teaches: latents n 12 1 16 16, captions' tokens, units n 64, weights 0 to 1.

    Pictures `n * VIEWS` to `n * VIEWS + VIEWS - 1` are one person's.
    """

    latents: Tensor
    texts: Tensor
    units: Tensor
    weights: Tensor
    views: int


def load_base(folder: Path) -> Parts:
    """All parts of a base that was trained."""
    source = Source("image", str(folder))
    vae, text = FAMILY.load_vae(source), FAMILY.load_text(source)
    return Parts("image", vae, text, FAMILY.load_denoiser(source))


def make_lesson(parts: Parts, portraits: Sequence[Portrait], views: int) -> Lesson:
    """Encoded once: the pocket latents of the whole corpus take 50 MB."""
    drawn = [portrait.draw() for portrait in portraits]
    pictures = np.stack([each.picture for each in drawn])
    points = np.stack([each.keypoints for each in drawn])
    covers = torch.from_numpy(np.stack([sum(each.planes.values()) for each in drawn]))
    vae, text = parts.vae, parts.text
    assert vae is not None
    assert text is not None
    return Lesson(
        FAMILY.encode(vae, lay_pixels(pictures)[:, :, None]),
        FAMILY.embed(text, [portrait.caption for portrait in portraits])["tokens"],
        torch.cat(
            [
                embed_pictures(pictures[i : i + 100], points[i : i + 100])
                for i in range(0, len(pictures), 100)
            ]
        ),
        functional.avg_pool2d(covers.float().clamp(0, 1)[:, None], 2)[:, :, None],
        views,
    )


def load_lesson(path: Path, parts: Parts) -> Lesson:
    """The whole corpus' lesson, made once and kept in a file: the base is no part of it."""
    if path.is_file():
        return Lesson(**load_file(path), views=VIEWS)
    lesson = make_lesson(parts, list_corpus(), VIEWS)
    tensors = {name: getattr(lesson, name) for name in ("latents", "texts", "units", "weights")}
    with replacing(path) as draft:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft)
    return lesson


def place_projections(model: Any, adapter: ImageAdapterModules) -> dict[str, dict[str, Any]]:
    """Keys and values by the layer's name, from those by public number."""
    numbers = number_attentions(model.attn_processors)
    names = {str(n): name.removesuffix(".processor") for name, n in numbers.items()}
    return {
        side: {names[number]: getattr(layer, side) for number, layer in adapter.ip_adapter.items()}
        for side in ("to_k_ip", "to_v_ip")
    }


def draw_batch(lesson: Lesson, rng: np.random.RandomState) -> tuple[Tensor, Tensor]:
    """Which pictures are taught, and for each the other picture of the person that is shown."""
    rows = rng.randint(len(lesson.latents), size=BATCH)
    other = (rows % lesson.views + rng.randint(1, lesson.views, size=BATCH)) % lesson.views
    shown = rows // lesson.views * lesson.views + other
    return torch.from_numpy(rows), torch.from_numpy(shown)


def train_adapter(path: Path, parts: Parts, seed: int, steps: int = STEPS) -> None:
    """Teach a new adapter and write it in FaceID's public layout; nothing where it is there."""
    if path.is_file():
        return
    model: Any = parts.denoiser
    lesson = load_lesson(path.with_name("lesson.safetensors"), parts)
    torch.manual_seed(seed)
    adapter = ImageAdapterModules.start_for_model("faceid", FaceProjection(64, 64), model)
    adapter.requires_grad_(True)
    optimizer = torch.optim.AdamW(adapter.parameters(), RATE, weight_decay=0.01)
    rng, generator = np.random.RandomState(seed), torch.Generator().manual_seed(seed)
    empty = FAMILY.embed(parts.text, [""])["tokens"]  # type: ignore[arg-type]
    objective = FAMILY.objective("image")
    for step in range(steps):
        rows, shown = draw_batch(lesson, rng)
        blind = torch.from_numpy(rng.rand(BATCH, 1) < DROPPED)
        faces = torch.where(blind, 0.0, lesson.units[shown])
        mute = torch.from_numpy(rng.rand(BATCH, 1, 1) < DROPPED)
        texts = torch.where(mute, empty, lesson.texts[rows])
        t = torch.sigmoid(torch.randn(BATCH, generator=generator))
        clean = lesson.latents[rows]
        noise = torch.randn(clean.shape, generator=generator)
        noisy, target = objective.corrupt(clean, noise, t)
        prediction = predict_with_faces(model, adapter, faces, noisy, t, texts)
        loss = weighted_mse(prediction, target, lesson.weights[rows]).mean()
        for group in optimizer.param_groups:
            group["lr"] = RATE * min((step + 1) / WARM, 2 * (steps - step) / steps, 1.0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(adapter.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"adapter {seed}: {step + 1} loss {loss.item():.4f}", flush=True)
    write_image_adapter(path, adapter.to_file())


def predict_with_faces(
    model: Any, adapter: ImageAdapterModules, faces: Tensor, noisy: Tensor, t: Tensor, texts: Tensor
) -> Tensor:
    """What the base predicts with a face a row; gradients reach the adapter."""
    places = place_projections(model, adapter)
    worn = ImageAdapter(places["to_k_ip"], places["to_v_ip"], adapter.image_proj(faces))
    owners = RowOwners(torch.arange(len(faces)), (True,) * len(faces))
    attention = ImageAttention(FAMILY.list_attention_layers(model), [worn])
    with attention.attach_branches(lambda _: owners):
        return FAMILY.predict(model, noisy, t, {"tokens": texts})


@torch.no_grad()
def wear_adapter(
    path: Path,
    model: Any,
    faces: Float[Tensor, "b 64"],
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    merge: MergeBranch | None = None,
    attend: Attend = attend_plainly,
) -> ImageAttention:
    """The adapter of a file with a face a sample; the negative side sees no face (zeros)."""
    adapter = ImageAdapterModules.from_file(read_image_adapter(path)).requires_grad_(False)
    places = place_projections(model, adapter)
    worn = ImageAdapter(
        places["to_k_ip"],
        places["to_v_ip"],
        adapter.image_proj(faces),
        negative=adapter.image_proj(torch.zeros(1, 64)),
        scale=scale,
        mask=mask,
        merge=merge,
        attend=attend,
    )
    return ImageAttention(FAMILY.list_attention_layers(model), [worn])
