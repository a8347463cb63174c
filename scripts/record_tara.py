"""Records what TARA's own code gives, for tests/training/test_focus.py.

    python scripts/record_tara.py CHECKOUT

A checkout is the authors' repository (github.com/YuqiPeng77/TARA, MIT) as a folder; the numbers
here are of its head cbd5dd5. Its masked linear layer runs as it is, and the lines of its trainer
that make the alignment loss are taken out of train_dreambooth_tara_sd.py and run. None of its text
is kept.
"""

import sys
import textwrap
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.models.lora import LoRACompatibleLinear
from safetensors.torch import save_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.training import tara_scene as scene  # noqa: E402

TO = ROOT / "tests/training/tara_peer.safetensors"
HEAD = "cbd5dd5"


def run_layer(checkout: str) -> dict[str, torch.Tensor]:
    """A linear layer with their LoRA on it: masked, and not."""
    sys.path.insert(0, checkout)
    kind: Any = import_module("tara").TARALinearLayer
    lora = kind(scene.WIDTH, scene.OUT, rank=scene.RANK, network_alpha=scene.ALPHA, use_mask=True)
    lora.down.weight.data = scene.draw("down", lora.down.weight.shape)
    lora.up.weight.data = scene.draw("up", lora.up.weight.shape)
    layer = LoRACompatibleLinear(scene.WIDTH, scene.OUT, lora_layer=lora)
    layer.weight.data = scene.draw("weight", layer.weight.shape)
    layer.bias.data = scene.draw("bias", layer.bias.shape)
    state = scene.draw("state", (scene.SAMPLES, scene.TOKENS, scene.WIDTH))
    plain = layer(state)
    kind.set_mask(scene.mark(scene.RARE)[..., None])
    masked = layer(state)
    kind.set_mask(None)
    return {"plain": plain.detach(), "masked": masked.detach()}


def run_alignment(checkout: str) -> torch.Tensor:
    """Their alignment loss over all layers."""
    lines = (Path(checkout) / "train_dreambooth_tara_sd.py").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip() == "align_loss = None")
    last = next(i for i, line in enumerate(lines) if "args.align_loss_weight * align_loss" in line)
    pairs = [scene.keys(layer) for layer in range(scene.LAYERS)]
    names: dict[str, Any] = {
        "args": SimpleNamespace(with_align_loss=True, align_loss_weight=1.0),
        "base_capture": {"k": [base for base, _ in pairs]},
        "lora_capture": {"k": [update for _, update in pairs]},
        "rare_mask": scene.mark(scene.RARE),
        "super_mask": scene.mark(scene.LIKE),
        "loss": torch.zeros(()),
    }
    exec(textwrap.dedent("\n".join(lines[first : last + 1])), names)
    value: torch.Tensor = names["align_loss"]
    return value


def main(checkout: str) -> None:
    tensors = run_layer(checkout) | {"alignment": run_alignment(checkout).reshape(1)}
    assert not torch.equal(tensors["plain"], tensors["masked"])
    save_file(tensors, TO, {"repo": "YuqiPeng77/TARA", "commit": HEAD})
    print(f"{TO}: {TO.stat().st_size} bytes, alignment {float(tensors['alignment']):.6f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
