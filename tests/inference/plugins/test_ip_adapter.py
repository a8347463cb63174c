"""IP-Adapter and FaceID as a user gets them, against diffusers' own, on stock pipelines."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.inference.plugins import scene
from torch import Tensor
from transformers import CLIPImageProcessorPil

from frisket.adapters.image.files import read_image_adapter
from frisket.inference.methods.identity.reference_tokens import align_frame

SCALE = 0.7
SD = "stable_diffusion"
QUICK = [(SD, "sd15", "plus"), (SD, "sd15", "faceid-plusv2"), (SD, "sdxl", "base")]
ALL = [(SD, model, kind) for model in ("sd15", "sdxl") for kind in ("base", "plus", "full")]
ALL += [(SD, model, kind) for model in ("sd15", "sdxl") for kind in scene.FACES]
SLOW = [pytest.param(*case, marks=pytest.mark.slow) for case in ALL if case not in QUICK]


class Sampled(Exception):
    """There is no need to sample again."""


@dataclass
class StockAdapter:
    """Samples by diffusers' own image adapter, with what our sampling calls the pipeline with."""

    load: Callable[[Any], dict[str, Any]]  # onto the pipeline; what it is to be called with
    clip: list[Tensor] = field(default_factory=list)

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], Any], specs: Sequence[Any]
    ) -> Iterator[None]:
        kwargs = call()
        self.clip = list(pipeline(**kwargs, **self.load(pipeline)).images[:, None])
        if self.clip:
            raise Sampled
        yield


def load_unet(path: Path) -> Callable[[Any], dict[str, Any]]:
    kind, reference = read_image_adapter(path).kind, scene.make_reference()
    encoder: Any = scene.build_encoder()

    def load(pipeline: Any) -> dict[str, Any]:
        processor = CLIPImageProcessorPil(size=scene.SIDE, crop_size=scene.SIDE)
        pipeline.register_modules(image_encoder=encoder, feature_extractor=processor)
        pipeline.load_ip_adapter(
            path.parent, subfolder="", weight_name=path.name, image_encoder_folder=None
        )
        pipeline.set_ip_adapter_scale(SCALE)
        if kind not in scene.FACES:
            return {"ip_adapter_image": Image.fromarray(reference.frame.numpy())}
        assert reference.face is not None
        assert reference.keypoints is not None
        face = reference.face.unit[None]
        if kind != "faceid":
            crop = align_frame(reference.frame, reference.keypoints)
            pixels = processor(crop.numpy(), return_tensors="pt").pixel_values
            pixels = torch.cat([torch.zeros_like(pixels), pixels])
            states = encoder(pixels, output_hidden_states=True).hidden_states[-2]
            projection = pipeline.unet.encoder_hid_proj.image_projection_layers[0]
            projection.clip_embeds = states[:, None]
            projection.shortcut = kind == "faceid-plusv2"
        return {"ip_adapter_image_embeds": [torch.stack([torch.zeros_like(face), face])]}

    return load


@pytest.mark.parametrize(("name", "variant", "kind"), [*QUICK, *SLOW])
@torch.no_grad()
def test_a_unet_samples_what_diffusers_own_adapter_samples(
    tmp_path: Path, name: str, variant: str, kind: Any
) -> None:
    family, parts = scene.load_family(name), scene.build_parts(name, variant)
    spec = scene.make_spec(family, variant)
    path = scene.write_file(tmp_path, scene.build_file(kind, family, parts.denoiser))
    plugin = "faceid" if kind in scene.FACES else "ip_adapter"
    method = scene.build_method(
        plugin, family, parts, path, scale=SCALE, encoder=scene.write_encoder(tmp_path)
    )
    (bare,) = scene.draw_clips(family, parts, [spec])
    (moved,) = scene.draw_clips(family, parts, [spec], method)
    stock = StockAdapter(load_unet(path))
    with pytest.raises(Sampled):
        scene.draw_clips(family, scene.build_parts(name, variant), [spec], stock)
    assert (moved - bare).abs().max() > 1e-3
    torch.testing.assert_close(moved, stock.clip[0], rtol=0, atol=1e-4)
    (after,) = scene.draw_clips(family, parts, [spec])
    assert torch.equal(after, bare)


def load_transformer(path: Path) -> Callable[[Any], dict[str, Any]]:
    file, reference = read_image_adapter(path), scene.make_reference()
    state = {"image_proj": dict(file.projection), "ip_adapter": dict(file.layers)}
    encoder_kind = "clip" if file.kind == "xlabs-flux" else "siglip"
    encoder: Any = scene.build_encoder(encoder_kind)

    def load(pipeline: Any) -> dict[str, Any]:
        pixels = scene.lay_pixels(reference.frame, encoder_kind)
        if file.kind == "xlabs-flux":
            pipeline.transformer._load_ip_adapter_weights([state])
            pipeline.set_ip_adapter_scale(SCALE)
            embeddings = encoder(pixels).image_embeds[None]
            unused = {"negative_ip_adapter_image_embeds": [embeddings]}  # no guidance in the batch
            return {"ip_adapter_image_embeds": [embeddings], **unused}
        pipeline.transformer._load_ip_adapter_weights(state)
        pipeline.set_ip_adapter_scale(SCALE)
        states = encoder(pixels, output_hidden_states=True).hidden_states[-2]
        return {"ip_adapter_image_embeds": torch.cat([torch.zeros_like(states), states])}

    return load


@pytest.mark.parametrize(
    ("name", "variant", "kind"),
    [("flux", "dev", "xlabs-flux"), ("sd3", "3.5-large", "instantx-sd3")],
)
@torch.no_grad()
def test_a_transformer_samples_what_diffusers_own_adapter_samples(
    tmp_path: Path, name: str, variant: str, kind: Any
) -> None:
    family, parts = scene.load_family(name), scene.build_parts(name, variant)
    spec = scene.make_spec(family, variant)
    path = scene.write_file(tmp_path, scene.build_file(kind, family, parts.denoiser))
    encoder = scene.write_encoder(tmp_path, "clip" if name == "flux" else "siglip")
    method = scene.build_method("ip_adapter", family, parts, path, scale=SCALE, encoder=encoder)
    (bare,) = scene.draw_clips(family, parts, [spec])
    (moved,) = scene.draw_clips(family, parts, [spec], method)
    stock = StockAdapter(load_transformer(path))
    with pytest.raises(Sampled):
        scene.draw_clips(family, scene.build_parts(name, variant), [spec], stock)
    assert (moved - bare).abs().max() > 1e-3
    torch.testing.assert_close(moved, stock.clip[0], rtol=0, atol=1e-4)
    (after,) = scene.draw_clips(family, parts, [spec])
    assert torch.equal(after, bare)
