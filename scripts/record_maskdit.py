"""Records what MaskDiT's authors' own code gives, for tests/families/test_maskdit_peer.py.

    python scripts/record_maskdit.py CHECKOUT TIMM

CHECKOUT is a folder of Anima-Lab/MaskDiT (MIT, parts CC-BY-NC; read at 73cfb96), TIMM one that timm
was installed into (`pip install --no-deps --target TIMM timm`). Its model, its loss and its mask
are imported and run with our weights; tests/families/maskdit.json gets the numbers, none of the
code is kept.
"""

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.families import maskdit_scene as scene  # noqa: E402

TO = ROOT / "tests/families/maskdit.json"
COMMIT = "73cfb96"


class Wrapped(nn.Module):
    """Their loss asks for what DistributedDataParallel puts around a model."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the module itself."""
        return self.module(*args, **kwargs)


def stub_torchvision() -> None:
    """Stand-ins: timm imports it for models that are not asked for."""
    for name in (
        "",
        ".transforms",
        ".transforms.functional",
        ".ops",
        ".ops.misc",
        ".io",
        ".models",
        ".models.feature_extraction",
        ".utils",
        ".datasets",
    ):
        module: Any = MagicMock()
        module.__path__ = []
        sys.modules[f"torchvision{name}"] = module


def rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under their names."""
    theirs: dict[str, Tensor] = {}

    def put(ours: str, name: str) -> None:
        for leaf in ("weight", "bias"):
            if f"{ours}.{leaf}" in weights:
                theirs[f"{name}.{leaf}"] = weights[f"{ours}.{leaf}"]

    put("patch_embed", "x_embedder.proj")
    flat = theirs["x_embedder.proj.weight"]
    shape = (len(flat), scene.CHANNELS, scene.PATCH, scene.PATCH)
    theirs["x_embedder.proj.weight"] = flat.view(shape)
    put("time_embed.0", "t_embedder.mlp.0")
    put("time_embed.2", "t_embedder.mlp.2")
    put("text_embed", "y_embedder.embedding_table")
    for kind, count in (("blocks", scene.DEPTH), ("decoder_blocks", 8)):
        for index in range(count):
            ours = f"{kind}.{index}"
            put(f"{ours}.modulation.linear", f"{ours}.adaLN_modulation.1")
            for leaf in ("weight", "bias"):
                parts = [weights[f"{ours}.attn1.to_{name}.{leaf}"] for name in "qkv"]
                theirs[f"{ours}.attn.qkv.{leaf}"] = torch.cat(parts)
            put(f"{ours}.attn1.to_out.0", f"{ours}.attn.proj")
            put(f"{ours}.ff.0", f"{ours}.mlp.fc1")
            put(f"{ours}.ff.2", f"{ours}.mlp.fc2")
    put("decoder_in.modulation.linear", "decoder_layer.adaLN_modulation.1")
    put("decoder_in.proj", "decoder_layer.linear")
    theirs["mask_token"] = weights["mask_token"]
    put("decoder_out.modulation.linear", "final_layer.adaLN_modulation.1")
    put("decoder_out.proj", "final_layer.linear")
    for leaf in ("weight", "bias"):  # ours: channel, row, column; theirs: row, column, channel
        value = theirs[f"final_layer.linear.{leaf}"]
        value = value.view(scene.CHANNELS, scene.PATCH**2, *value.shape[1:])
        theirs[f"final_layer.linear.{leaf}"] = value.transpose(0, 1).flatten(0, 1)
    return theirs


def build() -> Wrapped:
    """Their model with our weights, in training mode: only there it masks."""
    from models import maskdit  # noqa: PLC0415

    sizes = {"depth": scene.DEPTH, "hidden_size": scene.WIDTH, "num_heads": scene.HEADS}
    maskdit.DiT_models["small"] = lambda **options: maskdit.DiT(
        **sizes, patch_size=scene.PATCH, **options
    )
    model = maskdit.EDMPrecond(
        img_resolution=scene.SIDE,
        img_channels=scene.CHANNELS,
        num_classes=scene.CLASSES,
        model_type="small",
        use_decoder=True,
        mae_loss_coef=scene.STRENGTH,
    )
    weights = rename(dict(scene.build_model().state_dict()))
    lacking = set(model.model.state_dict()) - set(weights)
    assert lacking == {"pos_embed", "decoder_pos_embed"}, lacking
    model.model.load_state_dict(weights, strict=False)
    return Wrapped(model.train())


def run(ratio: float) -> dict[str, Any]:
    """Prediction, loss of each sample and some gradients, with the scene's tokens kept."""
    import train_utils.loss as losses  # noqa: PLC0415
    from models import maskdit  # noqa: PLC0415

    given, model = scene.draw_inputs(), build()
    kept = given["kept"]
    shuffled = torch.cat([kept, list_others(kept)], dim=1)
    mask = torch.ones(scene.SAMPLES, scene.TOKENS).scatter(1, kept, 0.0)
    parts = {"mask": mask, "ids_keep": kept, "ids_restore": shuffled.argsort(dim=1)}
    maskdit.get_mask = lambda *_, **__: parts
    losses.unwrap_model = lambda wrapped: wrapped.module
    # Their loss draws ln sigma first, then the noise.
    level = (given["sigma"].log() + 1.2) / 1.2
    drawn = iter([level.view(-1, 1, 1, 1), given["noise"]])
    torch_randn, torch_randn_like = torch.randn, torch.randn_like
    torch.randn = lambda *_, **__: next(drawn)
    torch.randn_like = lambda *_, **__: next(drawn)
    try:
        criterion = losses.EDMLoss()
        loss = criterion(model, given["clean"], given["classes"][:, 0], ratio, scene.STRENGTH)
    finally:
        torch.randn, torch.randn_like = torch_randn, torch_randn_like
    loss.mean().backward()
    inner: Any = model.module.model
    layers = {
        "patch_embed": inner.x_embedder.proj,
        "blocks.0.ff.0": inner.blocks[0].mlp.fc1,
        "decoder_blocks.3.ff.0": inner.decoder_blocks[3].mlp.fc1,
    }
    norms = {f"{name}.weight": float(layer.weight.grad.norm()) for name, layer in layers.items()}
    noisy = given["clean"] + given["sigma"].view(-1, 1, 1, 1) * given["noise"]
    with torch.no_grad():
        told = model(noisy, given["sigma"], given["classes"][:, 0], mask_ratio=ratio)["x"]
    return {
        "loss": loss.tolist(),
        "prediction": told.flatten(1).tolist(),
        "gradients": {**norms, "mask_token": float(inner.mask_token.grad.norm())},
    }


def list_others(kept: Tensor) -> Tensor:
    """The tokens that are not kept, in order."""
    marks = torch.zeros(scene.SAMPLES, scene.TOKENS).scatter(1, kept, 1.0)
    return marks.argsort(dim=1, stable=True)[:, : scene.TOKENS - kept.shape[1]]


def main() -> None:
    """Write the numbers."""
    checkout, timm = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    stub_torchvision()
    sys.path[:0] = [str(checkout), str(timm)]
    from models.maskdit import get_mask  # noqa: PLC0415
    from train_utils.helper import get_mask_ratio_fn  # noqa: PLC0415

    counts = [get_mask(1, n, r, "cpu")["ids_keep"].shape[1] for n, r in scene.COUNTS]
    cosine = get_mask_ratio_fn("cosine4", 0.5)
    numbers = {
        "source": f"Anima-Lab/MaskDiT {COMMIT}",
        "counts": counts,
        "cosine4": [float(cosine(x)) for x in scene.PROGRESS],
        "masked": run(0.5),
        "full": run(0.0),
    }
    TO.write_text(json.dumps(numbers) + "\n")


if __name__ == "__main__":
    main()
