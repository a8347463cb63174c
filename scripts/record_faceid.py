"""Records what IP-Adapter's own processors give, for tests/inference/plugins/test_peers.py.

    python scripts/record_faceid.py IP_ADAPTER

A checkout of the authors' repository as a folder: github.com/tencent-ailab/IP-Adapter (Apache-2.0,
head 62e4af9). Kept are predictions of a tiny UNet under their IPAttnProcessor2_0, and under their
LoRAAttnProcessor2_0 and LoRAIPAttnProcessor2_0 (FaceID), loaded the way their classes load a file.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.inference.plugins import faceid_scene  # noqa: E402

TO = ROOT / "tests/inference/plugins/peers.safetensors"


def load_module(folder: Path, name: str) -> ModuleType:
    """One file of theirs: the package itself imports pipelines that diffusers no longer has."""
    spec = importlib.util.spec_from_file_location(name, folder / "ip_adapter" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_processors(folder: Path, model: Any, kind: str, scale: float, lora: float) -> nn.Module:
    """Their processor of every attention, as a list, which is what their files are the state of."""
    plain: Any = load_module(folder, "attention_processor")
    faceid: Any = load_module(folder, "attention_processor_faceid")
    processors: list[nn.Module] = []
    for name in model.attn_processors:
        attention = model.get_submodule(name.removesuffix(".processor"))
        hidden, text = attention.to_q.out_features, attention.to_k.in_features
        own = name.endswith("attn1.processor")
        if kind == "base":
            made = (
                plain.AttnProcessor2_0() if own else plain.IPAttnProcessor2_0(hidden, text, scale)
            )
        elif own:
            made = faceid.LoRAAttnProcessor2_0(hidden, None, rank=3, lora_scale=lora)
        else:
            made = faceid.LoRAIPAttnProcessor2_0(
                hidden, text, rank=3, lora_scale=lora, scale=scale, num_tokens=4
            )
        processors.append(made)
    return nn.ModuleList(processors)


@torch.no_grad()
def record(folder: Path) -> dict[str, Tensor]:
    """The prediction of every case."""
    kept, call = {}, faceid_scene.draw_call()
    for name, (kind, scale, lora) in faceid_scene.CASES.items():
        model = faceid_scene.build_model()
        file = faceid_scene.build_case_file(kind, model)
        processors = build_processors(folder, model, kind, scale, lora)
        processors.load_state_dict({**file.layers, **file.loras})
        model.set_attn_processor(dict(zip(model.attn_processors, processors, strict=True)))
        states = torch.cat([call["text"], call["tokens"]], 1)
        kept[name] = model(call["sample"], call["timestep"], states).sample
    return kept


if __name__ == "__main__":
    save_file(record(Path(sys.argv[1])), TO)
