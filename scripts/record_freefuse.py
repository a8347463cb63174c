# ruff: noqa: D102
"""Records what FreeFuse's own code gives, for tests/inference/freefuse/test_peer.py.

    python scripts/record_freefuse.py CHECKOUT

A checkout is the authors' repository (github.com/yaoliliu/FreeFuse, Apache-2.0) as a folder; the
numbers here are of its head 720644e. Its pipeline runs whole, both phases, on the tiny FLUX of
tests/inference/freefuse/scene.py: with a background phrase and attention bias, with the end token
as background and no bias, and without either phase. Kept are the queries, keys and features of the
block it reads, and what it makes of them: anchors, maps, masks, bias, final latents. Its balanced
argmax, morphology and bias are called by themselves as well. None of its text is kept.
"""

import contextlib
import io
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import diffusers
import torch
import transformers
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline  # noqa: F401
from diffusers.models.transformers import transformer_flux
from safetensors.torch import save_file
from transformers import CLIPTextModel, T5EncoderModel  # noqa: F401

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.inference.freefuse import scene  # noqa: E402

TO = ROOT / "tests/inference/freefuse/peer.safetensors"
HEAD = "720644e"
PIPELINE = "freefuse_flux_direct_extract_attn_bais_background_except_pipeline"
CASES = {
    "phrase": {"background_token_positions": list(scene.BACKGROUND), "bias": True},
    "end": {"eos_token_index": scene.END, "bias": False},
}


class Absent:
    """Stands for matplotlib, which only their debug pictures use."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.startswith("matplotlib") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__getattr__ = lambda _: MagicMock()  # type: ignore[method-assign]
        module.__path__ = []
        return module

    def exec_module(self, _: ModuleType) -> None:
        """Nothing to run."""


def load(checkout: str) -> dict[str, Any]:
    """The authors' classes; what they import comes first, as stand-ins would break it."""
    sys.meta_path.insert(0, Absent())  # type: ignore[arg-type]
    sys.path.insert(0, checkout)
    found = {}
    for file in (
        f"pipeline.{PIPELINE}", "attn_processor.freefuse_attn_processor",
        "tuner.freefuse_lora_layer", "models.freefuse_transformer_flux",
    ):  # fmt: skip
        found |= vars(import_module(f"src.{file}"))
    found["versions"] = (
        f"diffusers {diffusers.__version__}, transformers {transformers.__version__}"
    )
    return found


def build(theirs: dict[str, Any]) -> Any:
    """Their pipeline over the tiny model, as their example script sets it up."""
    model = transformer_flux.FluxTransformer2DModel(**scene.CONFIG)
    scene.add_adapters(model)
    scene.fill(model)
    model.eval().requires_grad_(False)
    model.__class__ = theirs["FluxTransformer2DModel"]
    for module in list(model.modules()):
        if isinstance(module, transformer_flux.FluxTransformerBlock):
            module.__class__ = theirs["FreeFuseFluxTransformerBlock"]
        if isinstance(module, transformer_flux.FluxAttention):
            module.__class__ = theirs["FreeFuseFluxAttention"]
    processors = {
        name: there if "single" in name else theirs["FreeFuseFluxAttnProcessor"]()
        for name, there in model.attn_processors.items()
    }
    model.set_attn_processor(dict(processors))
    theirs["convert_peft_lora_to_freefuse_lora"](model)
    kind = theirs["FreeFuseFluxDirectExtractAttnBaisBGExceptPipeline"]
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    pipeline = kind(scheduler, None, None, None, None, None, model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def watch(kept: list[tuple[torch.Tensor, ...]]) -> None:
    """Keep what their processor multiplies, and what comes of it."""
    module = sys.modules["src.attn_processor.freefuse_attn_processor"]
    original = module.dispatch_attention_fn

    def dispatch(query: Any, key: Any, value: Any, **more: Any) -> Any:
        output = original(query, key, value, **more)
        kept.append((query, key, value, output))
        return output

    module.dispatch_attention_fn = dispatch


def run(theirs: dict[str, Any], case: str | None) -> dict[str, torch.Tensor]:
    """One picture; without a case that of the plain sum of the LoRAs."""
    pipeline, kept, numbers = build(theirs), [], {}
    kind = type(pipeline)
    positions = {name: [list(places)] for name, places in scene.PHRASES.items()}
    options = dict(CASES[case]) if case else {}
    bias = options.pop("bias", False)
    text = scene.conditioning()
    watch(kept)
    seen: dict[str, Any] = {}
    balanced, built = kind.stabilized_balanced_argmax, kind._construct_attention_bias

    def keep_maps(self: Any, logits: Any, *rest: Any, **more: Any) -> Any:
        seen.update(maps=logits.clone(), count=len(kept))
        return balanced(self, logits, *rest, **more)

    def keep_bias(self: Any, *rest: Any, **more: Any) -> Any:
        seen["bias"] = built(self, *rest, **more)
        return seen["bias"]

    kind.stabilized_balanced_argmax, kind._construct_attention_bias = keep_maps, keep_bias
    if case:
        pipeline.transformer.set_freefuse_token_pos_maps(positions)
    with contextlib.redirect_stdout(io.StringIO()):
        latents = pipeline(
            prompt_embeds=text["text"],
            pooled_prompt_embeds=text["pooled"],
            height=scene.HEIGHT,
            width=scene.WIDTH,
            num_inference_steps=scene.STEPS,
            guidance_scale=scene.GUIDANCE,
            generator=torch.Generator().manual_seed(scene.SEED),
            output_type="latent",
            aggreate_lora_score_step=scene.COLLECT,
            use_attention_bias=bias,
            attention_bias_scale=scene.BIAS[0],
            attention_bias_positive_scale=scene.BIAS[1],
            joint_attention_kwargs={"freefuse_token_pos_maps": positions if case else None}
            | options,
        ).images
    numbers["latents"] = latents
    kind.stabilized_balanced_argmax, kind._construct_attention_bias = balanced, built
    if not case:
        return numbers
    processor = pipeline.transformer.attn_processors["transformer_blocks.18.attn.processor"]
    query, key, _, output = kept[seen["count"] - 1]  # of the double blocks, 18 is the last
    numbers["query"], numbers["key"] = query[:, scene.TEXT :], key[:, : scene.TEXT]
    numbers["features"] = output.flatten(2)[:, scene.TEXT :]
    for index, name in enumerate(scene.ADAPTERS):
        numbers[f"anchors.{index}"] = processor.top_k_indices_map[name]
        numbers[f"mask.{index}"] = pipeline.transformer.freefuse_mask[name]
    numbers["maps"] = seen["maps"]
    if "bias" in seen:
        numbers["bias"] = seen["bias"]
    return numbers


def call_parts(theirs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Balanced argmax and morphology by themselves, with every parameter moved."""
    kind = theirs["FreeFuseFluxDirectExtractAttnBaisBGExceptPipeline"]
    pipeline, numbers = kind.__new__(kind), {}
    for name, (height, width, concepts, more) in scene.BALANCES.items():
        logits = scene.draw_maps(name, height * width, concepts)
        numbers[f"balance.{name}"] = kind.stabilized_balanced_argmax(
            pipeline, logits, height, width, **more
        )
    for name, (height, width, opening) in scene.CLEANS.items():
        mask = (scene.draw(name, (2, height * width)) > 0).float()
        numbers[f"clean.{name}"] = kind.morphological_clean_mask(
            pipeline, mask, height, width, opening, opening
        )
    return numbers


def main(checkout: str) -> None:
    theirs = load(checkout)
    tensors = call_parts(theirs)
    for case in (None, *CASES):
        for name, value in run(theirs, case).items():
            tensors[f"{case or 'plain'}.{name}"] = value
    for case in CASES:
        away = (tensors[f"{case}.latents"] - tensors["plain.latents"]).abs().max()
        masks = [int(tensors[f"{case}.mask.{index}"].sum()) for index in range(2)]
        print(f"{case}: masks of {masks} cells, {float(away):.3g} from the plain sum")
        print(f"  maps {tensors[f'{case}.maps'].aminmax()}")
    metadata = {"repo": "yaoliliu/FreeFuse", "commit": HEAD, "versions": theirs["versions"]}
    save_file({name: value.contiguous() for name, value in tensors.items()}, TO, metadata)
    print(f"{TO}: {len(tensors)} tensors, {TO.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
