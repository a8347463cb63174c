# ruff: noqa: D102
"""Records what FastFace's and UniID's own code gives, for tests/inference/identity/test_peers.py.

    python scripts/record_identity.py FASTFACE UNIID

Each is a checkout of the authors' repository as a folder: github.com/ControlGenAI/FastFace (MIT,
head e8a318f) and github.com/lyuPang/UniID (MIT, head 41cd236). Kept are numbers alone: guided
predictions, strengths by noise level, what an attention with a changed map reads, and what a layer
gives with an identity beside it. All with a batch of one, where FastFace's code mixes no samples.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch
from safetensors.torch import save_file
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.inference.identity import scene  # noqa: E402

TO = ROOT / "tests/inference/identity/peers.safetensors"


class Absent:
    """Stands for matplotlib and seaborn, which only their plots use."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        known = name.startswith(("matplotlib", "seaborn"))
        return ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__getattr__ = lambda _: MagicMock()  # type: ignore[method-assign]
        module.__path__ = []
        return module

    def exec_module(self, _: ModuleType) -> None:
        """Nothing to run."""


def record_guidance() -> dict[str, Tensor]:
    """Guided predictions, and strengths by noise level."""
    module: Any = import_module("src.dcg")
    kept = {}
    for name, (kind, first, second, renorm, rescale) in scene.GUIDANCES.items():
        kept[f"guidance.{name}"] = module.decoupled_cfg_predict(
            torch.cat(scene.draw_predictions()),
            first,
            second,
            (0, 500.0),
            dcg_type=kind,
            term_preproc="renorm" if renorm else "",
            term_postproc="rescale" if rescale else "",
            rescale=rescale,
        )["pred"]
    schedules: Any = import_module("src.cfg_schedulers")
    for name, (options, _) in scene.SCHEDULES.items():
        strength = schedules.get_scheduler(name)
        values = [strength(1.7, level, **options) for level in scene.LEVELS]
        kept[f"strength.{name}"] = torch.tensor(values, dtype=torch.float64)
    return kept


def record_maps() -> dict[str, Tensor]:
    """What attention with a changed map reads: the paper's two, in every step of the second."""
    module: Any = import_module("src.custom_dca")
    torch.Tensor.half = lambda tensor: tensor  # type: ignore[method-assign,assignment] # no rounding
    kept = {}
    for part in ("down", "up"):

        def sharpen(maps: Tensor, part: str) -> Tensor:
            return module.scale_transform(module.pow_transform(maps, part), part)

        kept[f"maps.power.{part}"] = module.scaled_dot_product_attention(
            *scene.draw_heads(), am_transform=sharpen, unet_part=part
        )

    def soften(maps: Tensor, part: str) -> Tensor:
        return module.scale_transform(module.adaptive_softmask_transform(maps, part), part)

    for step in range(4):
        for name, schedule in (
            ("softmask_qa", module.softmask_qa_schedule),
            ("softmask", module.softmask_s_schedule),
            ("scale", module.softmask_scale_schedule),
        ):
            module.scales_map[name]["down"] = schedule["down"][step]
        for adain in (False, True):
            kept[f"maps.mask.{step}.{'adain' if adain else 'plain'}"] = (
                module.scaled_dot_product_attention(
                    *scene.draw_heads(),
                    am_transform=soften,
                    unet_part="down",
                    inverse_neg_transforms=True,
                    apply_adain=adain,
                    adain_weight=0.7,
                )
            )
    return kept


def record_layer() -> dict[str, Tensor]:
    """A layer with an identity beside it, rescaled and plain."""
    module: Any = import_module("modules.attention_processor")
    kept = {}
    states, text, tokens = scene.draw_states()
    for name, rescaled in (("rescaled", True), ("plain", False)):
        processor = module.IPAttnProcessor2_0(
            scene.WIDTH, scene.TEXT, 0.8, scene.TOKENS, normalize_adapter_output=rescaled
        )
        for own, drawn in zip(
            (processor.to_k_ip, processor.to_v_ip), scene.build_projections(), strict=True
        ):
            own.load_state_dict(drawn.state_dict())
        attention = scene.build_attention()
        attention.set_processor(processor)
        kept[f"layer.{name}"] = attention(states, torch.cat([text, tokens], 1))
    return kept


@torch.no_grad()
def main() -> None:
    """Write them all."""
    fastface, uniid = map(Path, sys.argv[1:3])
    sys.meta_path.insert(0, Absent())  # type: ignore[arg-type]
    sys.path[:0] = [str(fastface), str(uniid)]
    kept = record_guidance() | record_maps() | record_layer()
    save_file({name: value.contiguous() for name, value in kept.items()}, TO)
    print(f"{len(kept)} tensors in {TO}")


main()
