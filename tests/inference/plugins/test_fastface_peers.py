"""FastFace whole against the authors' own pipeline, as scripts/record_fastface.py has it."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.inference.plugins import fastface_cases, scene, small_sdxl

PEERS = load_file(Path(__file__).with_name("fastface.safetensors"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return fastface_cases.write_files(tmp_path_factory.mktemp("fastface"))


@pytest.mark.parametrize("name", fastface_cases.CASES)
def test_a_face_through_files_guidance_and_maps_is_the_authors(
    name: str, files: tuple[Path, Path]
) -> None:
    path, encoder = files
    family, parts = small_sdxl.build_parts()
    method = scene.build_method(
        "fastface",
        family,
        parts,
        path,
        encoder=encoder,
        scale=fastface_cases.SCALE,
        options=fastface_cases.CASES[name].make_options(),
    )
    latents = small_sdxl.sample(family, parts, method)
    assert (latents - PEERS[name]).abs().max() <= 5e-5 * PEERS[name].abs().max()


def test_what_was_recorded_is_apart() -> None:
    latents = [PEERS[name] for name in fastface_cases.CASES]
    for index, first in enumerate(latents):
        assert all((first - other).abs().max() > 0.05 for other in latents[:index])
