"""What MaskDiT's authors' code and ours are both given: weights, pictures, noise, tokens."""

import torch
from torch import Tensor

from frisket.families.models.maskdit.model import MaskDiTModel
from frisket.families.models.maskdit.predict import predict_clean
from frisket.families.routes import keep_tokens
from frisket.losses.base import Step
from frisket.losses.terms.denoise import Denoise
from frisket.losses.terms.reconstruction import Reconstruction
from frisket.objectives.edm import Edm
from frisket.routing.patches import PatchSelection, RatioPlan
from frisket.routing.selection import TokenSelection

CLASSES, WIDTH, DEPTH, HEADS = 10, 48, 2, 4
SIDE, CHANNELS, PATCH, SAMPLES = 8, 4, 2, 3
STRENGTH = 0.1
TOKENS = (SIDE // PATCH) ** 2
COUNTS = tuple((count, ratio) for count in (16, 64, 256, 1024) for ratio in (0.25, 0.3, 0.5, 0.75))
PROGRESS = (0.0, 0.1, 0.25, 0.5, 0.8, 1.0)


def build_model() -> MaskDiTModel:
    """Theirs in small: a class beside the noise level, no text; its decoder is 512 wide, 8 deep."""
    model = MaskDiTModel(
        in_channels=CHANNELS,
        patch_size=PATCH,
        width=WIDTH,
        depth=DEPTH,
        heads=HEADS,
        text_slots=1,
        text_width=CLASSES,
        text_attention=False,
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(0.05 * torch.randn(value.shape, generator=generator))
    return model


def draw_inputs() -> dict[str, Tensor]:
    """Clean latents b c h w, noise, sigma, classes b 1 k, and the kept tokens, in order."""
    generator = torch.Generator().manual_seed(2)
    shape = (SAMPLES, CHANNELS, SIDE, SIDE)
    kept = torch.rand(SAMPLES, TOKENS, generator=generator).argsort(dim=1)[:, : TOKENS // 2]
    return {
        "clean": 0.5 * torch.randn(shape, generator=generator),
        "noise": torch.randn(shape, generator=generator),
        "sigma": torch.tensor([0.05, 0.7, 9.0]),
        "classes": torch.eye(CLASSES)[[3, 7, 1]][:, None],
        "kept": kept.sort(dim=1).values,
    }


def run_step(model: MaskDiTModel, *, masked: bool) -> tuple[Tensor, Tensor, Step]:
    """What our model predicts b c h w, the loss of each sample, and the step behind it."""
    given, objective = draw_inputs(), Edm()
    t = given["sigma"] / (1 + given["sigma"])
    latents, noise = given["clean"][:, :, None], given["noise"][:, :, None]
    noisy, target = objective.corrupt(latents, noise, t)
    kept = given["kept"] if masked else None
    with keep_tokens(kept):
        prediction = predict_clean(model, noisy, t, given["classes"])
    cells = mark_cells(given["kept"]) if masked else torch.ones(SAMPLES, 1, 1, SIDE, SIDE)
    step = Step(
        prediction=prediction,
        target=target,
        t=t,
        weights=cells,
        coverage=torch.zeros(SAMPLES, 1, 1, SIDE, SIDE),
        noisy=noisy,
        left_out=1 - cells if masked else None,
        patch=(1, PATCH, PATCH),
    )
    loss = objective.weight(t) * Denoise()(step) + STRENGTH * Reconstruction()(step)
    return prediction[:, :, 0], loss, step


def mark_cells(kept: Tensor) -> Tensor:
    """1 in the cells of kept tokens, b 1 1 h w."""
    marks = torch.zeros(SAMPLES, TOKENS).scatter(1, kept, 1.0)
    marks = marks.view(SAMPLES, 1, 1, SIDE // PATCH, SIDE // PATCH)
    return marks.repeat_interleave(PATCH, 3).repeat_interleave(PATCH, 4)


def choose(count: int, ratio: float) -> TokenSelection | None:
    """Our selection of `count` tokens in one row that all have weight."""
    weights = torch.ones(1, 1, 1, 1, count)
    return PatchSelection()(weights, (1, 1, 1), ratio, torch.Generator().manual_seed(0))


def list_ratios() -> list[float]:
    """Our cosine schedule of ratio 0.5 at the points of `PROGRESS`, nothing unmasked early."""
    plan = RatioPlan(ratio=0.5, schedule="cosine", power=4.0)
    return [plan.find_ratio(progress) for progress in PROGRESS[:-1]] + [0.0]
