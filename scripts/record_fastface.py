# ruff: noqa: D102
"""Records what FastFace's own pipeline gives, for tests/inference/plugins/test_fastface_peers.py.

    python scripts/record_fastface.py FASTFACE

FASTFACE is a checkout of the authors' repository as a folder: github.com/ControlGenAI/FastFace
(MIT, head e8a318f). Their pipeline samples with a small SDXL and a FaceID-PlusV2 that diffusers
loads; kept are the final latents alone. Their soft masks take minimum and maximum over the three
rows of guidance and are left out: tests/inference/identity compares those on one row.
"""

import sys
import tempfile
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPImageProcessorPil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.inference.plugins import fastface_cases, scene, small_sdxl  # noqa: E402

from frisket.inference.methods.identity.reference_tokens import align_frame  # noqa: E402

TO = ROOT / "tests/inference/plugins/fastface.safetensors"
CALL = IPAdapterAttnProcessor2_0.__call__


class Absent:
    """Stands for face finders and plots."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        known = name.startswith(("insightface", "matplotlib", "cv2"))
        return ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__getattr__ = lambda _: MagicMock()  # type: ignore[method-assign]
        module.__path__ = []
        return module

    def exec_module(self, _: ModuleType) -> None:
        """Nothing to run."""


def record_case(case: fastface_cases.Case, folder: Path) -> Tensor:
    """The final latents of one case."""
    path, _ = fastface_cases.write_files(folder)
    family, parts = small_sdxl.build_parts()
    parts.text = None
    theirs: Any = import_module("src.sdxl_custom_pipeline").DecoupledGuidancePipelineXL
    pipeline = theirs(**family.pipeline(parts).components)
    pipeline.set_progress_bar_config(disable=True)
    encoder: Any = fastface_cases.build_encoder()
    processor = CLIPImageProcessorPil(size=scene.SIDE, crop_size=scene.SIDE)
    pipeline.register_modules(image_encoder=encoder, feature_extractor=processor)
    pipeline.load_ip_adapter(
        path.parent, subfolder="", weight_name=path.name, image_encoder_folder=None
    )
    pipeline.set_ip_adapter_scale(fastface_cases.SCALE)
    show_face(pipeline, encoder, processor, case.kind)
    patch: Any = import_module("src.custom_dca")
    IPAdapterAttnProcessor2_0.__call__ = CALL  # type: ignore[method-assign]
    if case.transforms:
        patch.patch_pipe(
            pipeline,
            target_parts=["down", "up"],
            target_tokens=[0, 1, 2, 3],
            target_tsteps=[0, 1, 2, 3],
            am_transforms=list(case.transforms),
            inverse_neg_transforms=False,
            apply_schedule=False,
        )
    face = scene.make_reference().face
    assert face is not None
    pair = torch.stack([torch.zeros(1, scene.FACE), face.unit[None]])
    call = small_sdxl.draw_call()
    call.pop("guidance_scale")
    return pipeline(
        **call,
        ip_adapter_image_embeds=[pair],
        guidance_scale_a=case.strengths[0],
        guidance_scale_b=case.strengths[1],
        dcg_kwargs={"dcg_type": case.kind, **case.dcg},
    ).images


def show_face(pipeline: Any, encoder: Any, processor: Any, kind: int) -> None:
    """Hand the projection the encoder's states of three rows, as their own helper does."""
    reference = scene.make_reference()
    assert reference.keypoints is not None
    crop = align_frame(reference.frame, reference.keypoints)
    pixels = processor(crop.numpy(), return_tensors="pt").pixel_values
    pixels = torch.cat([torch.zeros_like(pixels), pixels])
    states = encoder(pixels, output_hidden_states=True).hidden_states[-2]
    rows = pipeline.prepare_ip_adapter_image_embeds(
        None,
        [states[:, None]],
        torch.device("cpu"),
        1,
        do_classifier_free_guidance=True,
        do_decoupled_cfg=True,
        dcg_type=kind,
    )
    projection = pipeline.unet.encoder_hid_proj.image_projection_layers[0]
    projection.clip_embeds, projection.shortcut = rows[0], True


@torch.no_grad()
def main() -> None:
    """Write them all."""
    sys.meta_path.insert(0, Absent())  # type: ignore[arg-type]
    sys.path.insert(0, sys.argv[1])
    kept = {}
    for name, case in fastface_cases.CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            kept[name] = record_case(case, Path(folder))
    save_file({name: value.contiguous() for name, value in kept.items()}, TO)
    print(f"{len(kept)} tensors in {TO}")


if __name__ == "__main__":
    main()
