"""Cases of FastFace that the authors' code and ours are both run on, and files for both."""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.inference.plugins import scene, small_sdxl
from torch import nn

from frisket.inference.methods.identity.fastface.reading import FastFaceOptions

SCALE = 0.8
CUSTOM = {"a": (1.0, 1.5, 1.5, 1.0), "b": (1.0, 3.0, 3.0, 1.0)}


@dataclass(frozen=True, slots=True)
class Case:
    """`dcg_kwargs` and strengths of theirs, options of ours."""

    kind: int
    options: dict[str, Any]
    dcg: dict[str, Any] = field(default_factory=dict)
    strengths: tuple[float, float] = (1.5, 3.0)
    transforms: tuple[str, ...] = ()

    def make_options(self) -> FastFaceOptions:
        """Ours; what a case leaves out is off."""
        a, b = ((value,) for value in self.strengths)
        return FastFaceOptions(**{"a": a, "b": b, "rescale": 0.0, "maps": "none", **self.options})


RESCALED: dict[str, Any] = {"term_postproc": "rescale", "rescale": 0.75}
CASES = {
    "identity": Case(3, {"guidance": "identity"}),
    "text": Case(1, {"guidance": "text"}),
    "apart": Case(2, {"guidance": "apart"}),
    "renormed": Case(3, {"renorm": True}, {"term_preproc": "renorm"}),
    "linear": Case(
        3,
        {"a_course": "linear", "b_course": "cosine"},
        {"a_scheduler": "linear", "b_scheduler": "cos"},
    ),
    "whole": Case(
        3,
        {**CUSTOM, "rescale": 0.75, "maps": "power"},
        {
            **RESCALED,
            "a_scheduler": "custom",
            "b_scheduler": "custom",
            "sch_kwargs": {"custom": {name: list(value) for name, value in CUSTOM.items()}},
        },
        transforms=("pow", "scale"),
    ),
}


def write_files(folder: Path) -> tuple[Path, Path]:
    """A FaceID-PlusV2 with its LoRA for the small SDXL, and an image encoder, drawn by names."""
    family, parts = small_sdxl.build_parts()
    assert parts.denoiser is not None
    file = scene.build_file("faceid-plusv2", family, parts.denoiser)
    build_encoder().save_pretrained(folder / "clip")  # type: ignore[operator]
    return scene.write_file(folder, file), folder / "clip"


def build_encoder() -> nn.Module:
    encoder = deepcopy(scene.build_encoder())  # which others share
    small_sdxl.fill(encoder, "encoder.")
    return encoder
