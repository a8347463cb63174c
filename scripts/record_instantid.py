"""Records what InstantID's own pipeline gives, for tests/inference/plugins/instantid/test_peer.py.

    python scripts/record_instantid.py INSTANTID

A folder with instantX-research/InstantID (Apache-2.0; read at 2145b67): its pipelines and its
ip_adapter package. They are imported and run on the tiny SDXL of that folder's scene.py, with files
that Frisket wrote; pictures and tokens are kept, none of the code.
"""

import sys
import tempfile
from importlib import import_module
from pathlib import Path

import torch
from diffusers import ControlNetModel
from diffusers.models.controlnets import multicontrolnet
from safetensors.torch import save_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.inference.plugins.instantid import scene  # noqa: E402

TO = ROOT / "tests/inference/plugins/instantid/peer.safetensors"


def build_pipeline(theirs, folder: Path):
    """A module's, over our tiny parts, with its files loaded by its own code."""
    from ip_adapter.resampler import Resampler  # noqa: PLC0415

    parts, family = scene.build_parts(), scene.load_family()
    pipeline = theirs.StableDiffusionXLInstantIDPipeline(
        vae=parts.vae, text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None,
        unet=parts.denoiser, controlnet=ControlNetModel.from_pretrained(folder / "ControlNetModel"),
        scheduler=family.pipeline(parts).scheduler, add_watermarker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    resampler = Resampler(
        dim=scene.HIDDEN, depth=4, dim_head=64, heads=1, num_queries=16,
        embedding_dim=scene.FACE, output_dim=32,
    )  # fmt: skip
    adapter = folder / "ip-adapter.bin"
    resampler.load_state_dict(torch.load(adapter, weights_only=True)["image_proj"])
    pipeline.image_proj_model, pipeline.image_proj_model_in_features = resampler.eval(), scene.FACE
    pipeline.set_ip_adapter(adapter, 16, 1.0)
    return pipeline


def call_pipeline(theirs, pipeline, strengths, **options):
    """One picture, thinned out."""
    attention, net, start, end = strengths
    prompts = scene.draw_prompts()
    positive, negative = (prompts[text, ()] for text in (scene.PROMPT, scene.NEGATIVE))
    scale = torch.tensor([scene.WIDTH / scene.SOURCE[1], scene.HEIGHT / scene.SOURCE[0]])
    frame = theirs.PIL.Image.new("RGB", (scene.WIDTH, scene.HEIGHT))
    pipeline.set_ip_adapter_scale(attention)
    output = pipeline(
        image=theirs.draw_kps(frame, (scene.KEYPOINTS * scale).numpy()),
        image_embeds=scene.draw_face().raw.numpy(),
        prompt_embeds=positive["text"], pooled_prompt_embeds=positive["pooled"],
        negative_prompt_embeds=negative["text"], negative_pooled_prompt_embeds=negative["pooled"],
        height=scene.HEIGHT, width=scene.WIDTH, num_inference_steps=scene.STEPS,
        guidance_scale=scene.GUIDANCE, controlnet_conditioning_scale=net,
        control_guidance_start=start, control_guidance_end=end,
        generator=[torch.Generator().manual_seed(scene.SEED)], output_type="pt", **options,
    )  # fmt: skip
    return scene.thin_out(output.images[0])


@torch.no_grad()
def main(checkout: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = scene.save_modules(Path(scratch) / "instantid")
        sys.modules["diffusers.pipelines.controlnet.multicontrolnet"] = multicontrolnet
        sys.path.insert(0, str(checkout))
        theirs = import_module("pipeline_stable_diffusion_xl_instantid")
        pipeline = build_pipeline(theirs, folder)
        outputs = {
            name: call_pipeline(theirs, pipeline, strengths)
            for name, strengths in scene.RUNS.items()
        }
        full = import_module("pipeline_stable_diffusion_xl_instantid_full")
        mask = scene.lay_mask()[0, 0].mul(255).to(torch.uint8)
        mask = mask.repeat_interleave(8, 0).repeat_interleave(8, 1)[..., None].expand(-1, -1, 3)
        outputs["masked"] = call_pipeline(
            full,
            build_pipeline(full, folder),
            scene.RUNS["both"],
            control_mask=theirs.PIL.Image.fromarray(mask.numpy()),
        )
        face = scene.draw_face().raw[None, None]
        outputs["tokens"] = pipeline.image_proj_model(face)
        outputs["negative"] = pipeline.image_proj_model(torch.zeros_like(face))
    outputs = {name: value.contiguous() for name, value in outputs.items()}
    save_file(dict(sorted(outputs.items())), TO, {"commit": "InstantID 2145b67"})
    print(f"{len(outputs)} outputs, {TO.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
