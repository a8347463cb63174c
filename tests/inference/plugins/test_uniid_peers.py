"""UniID whole against the authors' own code, as scripts/record_uniid.py has it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.inference.plugins import small_sdxl, uniid_cases

from frisket.inference.methods.identity.uniid.name_norms import measure_name_norms
from frisket.inference.methods.plugin import METHODS

PEERS = load_file(Path(__file__).with_name("uniid.safetensors"))
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return uniid_cases.write_files(tmp_path_factory.mktemp("uniid"))


@pytest.mark.parametrize("name", uniid_cases.CASES)
def test_a_face_through_network_branches_and_pipeline_is_the_authors(
    name: str, files: Path
) -> None:
    request = uniid_cases.make_request(files, uniid_cases.CASES[name])
    family, parts = small_sdxl.build_parts()
    method = METHODS.load("uniid").read(request, family, "sdxl").build(family, parts)
    latents = small_sdxl.sample(family, parts, method)
    assert (latents - PEERS[name]).abs().max() <= 5e-5 * PEERS[name].abs().max()


def test_norms_of_names_are_those_that_the_authors_measure() -> None:
    norms = measure_name_norms(uniid_cases.build_text(), uniid_cases.NAMES, small_sdxl.TOKENS)
    for index, values in enumerate(norms):
        torch.testing.assert_close(values, PEERS[f"norms.{index}"], **CLOSE)


def test_what_was_recorded_is_apart() -> None:
    latents = [PEERS[name] for name in uniid_cases.CASES]
    for index, first in enumerate(latents):
        assert all((first - other).abs().max() > 0.05 for other in latents[:index])
