"""InstantID against the authors' pipeline, and against diffusers' own for ControlNets.

What theirs gave is recorded (scripts/record_instantid.py); diffusers is run here.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline
from safetensors.torch import load_file
from tests.inference.plugins.instantid import scene
from torch import Tensor

from frisket.inference.methods.identity.instantid.method import InstantIdStrength
from frisket.inference.methods.identity.instantid.pose import draw_pose

PEER = Path(__file__).parent / "peer.safetensors"


class TokenNet(ControlNetModel):
    """IdentityNet for diffusers' pipeline, which hands the prompt to ControlNets."""

    tokens: Tensor

    def forward(
        self,
        sample: Tensor,
        timestep: Any,
        encoder_hidden_states: Tensor,
        *args: Any,
        **options: Any,
    ) -> Any:
        """The face's tokens in the prompt's place, negative rows first."""
        return super().forward(sample, timestep, self.tokens, *args, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scene.save_modules(tmp_path_factory.mktemp("instantid") / "files")


@pytest.mark.parametrize("name", scene.RUNS)
def test_a_picture_is_the_authors(folder: Path, name: str) -> None:
    theirs, attention = load_file(PEER)[name], scene.RUNS[name]
    method = scene.build_method(folder, options=InstantIdStrength(*attention))
    picture = scene.sample_pictures(method)
    torch.testing.assert_close(scene.thin_out(picture[0]), theirs, rtol=0, atol=1e-4)
    bare = scene.thin_out(scene.sample_pictures()[0])
    assert (bare - theirs).abs().max() > 0.01


def test_a_masked_picture_is_that_of_their_full_pipeline(folder: Path) -> None:
    theirs = load_file(PEER)
    method = scene.build_method(
        folder,
        options=InstantIdStrength(*scene.RUNS["both"]),
        masks={(1, scene.HEIGHT, scene.WIDTH): scene.lay_mask()[None]},
    )
    picture = scene.thin_out(scene.sample_pictures(method)[0])
    torch.testing.assert_close(picture, theirs["masked"], rtol=0, atol=1e-4)
    assert (theirs["masked"] - theirs["both"]).abs().max() > 0.01


@torch.no_grad()
def test_tokens_are_the_authors() -> None:
    projection: Any = scene.build_modules().adapter.image_proj
    face, theirs = scene.draw_face().raw[None], load_file(PEER)
    torch.testing.assert_close(projection(face), theirs["tokens"], rtol=1e-5, atol=1e-5)
    negative = projection.project_negative(face)
    torch.testing.assert_close(negative, theirs["negative"], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(negative, theirs["tokens"], atol=0.1)


@torch.no_grad()
def test_a_batch_is_what_diffusers_makes_of_the_same_files(folder: Path) -> None:
    modules, family, parts = scene.build_modules(), scene.load_family(), scene.build_parts()
    projection: Any = modules.adapter.image_proj
    face, specs = scene.draw_face().raw, scene.make_specs(2)
    net: Any = TokenNet.from_pretrained(folder / "ControlNetModel")
    tokens = projection(torch.stack([torch.zeros_like(face), face]))
    net.tokens = tokens.repeat_interleave(2, 0)
    pipeline = StableDiffusionXLControlNetPipeline(
        parts.vae, None, None, None, None, parts.denoiser, net,
        family.pipeline(parts).scheduler, add_watermarker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    prompts = scene.draw_prompts()
    positive, negative = (prompts[text, ()] for text in (scene.PROMPT, scene.NEGATIVE))
    ours = scene.sample_pictures(scene.build_method(folder, scale=0.8), specs)
    processors = dict(parts.denoiser.attn_processors)  # type: ignore[union-attr, arg-type]
    pipeline.load_ip_adapter(
        str(folder), subfolder="", weight_name="ip-adapter.bin", image_encoder_folder=None
    )
    try:
        pipeline.set_ip_adapter_scale(0.8)
        theirs = pipeline(
            image=draw_pose(scene.KEYPOINTS, scene.SOURCE, (scene.HEIGHT, scene.WIDTH)),
            ip_adapter_image_embeds=[torch.stack([torch.zeros_like(face), face])[:, None, None]],
            prompt_embeds=positive["text"].repeat(2, 1, 1),
            negative_prompt_embeds=negative["text"].repeat(2, 1, 1),
            pooled_prompt_embeds=positive["pooled"].repeat(2, 1),
            negative_pooled_prompt_embeds=negative["pooled"].repeat(2, 1),
            num_inference_steps=scene.STEPS, guidance_scale=scene.GUIDANCE,
            height=scene.HEIGHT, width=scene.WIDTH, controlnet_conditioning_scale=0.8,
            generator=[torch.Generator().manual_seed(spec.seed) for spec in specs],
            output_type="pt",
        ).images  # fmt: skip
    finally:
        pipeline.unload_ip_adapter()
        parts.denoiser.set_attn_processor(processors)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    # A picture that is sampled with another is the one that is sampled alone.
    alone = scene.sample_pictures(scene.build_method(folder, scale=0.8), specs[1:])
    torch.testing.assert_close(ours[1:], alone, rtol=0, atol=1e-5)
