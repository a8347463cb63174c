"""The same predictions as SimpleTuner's, whose transformers route themselves, of the same tokens.

`simpletuner.json` has what its FLUX.1 and SD 3.5 transformers gave, in train mode, with a router
whose mask was fixed; between those two programs the difference was 0. Of Qwen-Image and FLUX.2
there is nothing to compare: there its routing ends in an error at this commit.
"""

import json
from pathlib import Path

import pytest
import torch
from tests.contracts.conftest import normal
from tests.contracts.routing.small_router import carry_tokens

from frisket.families.base import FAMILIES

PEER = json.loads(Path(__file__).with_name("simpletuner.json").read_text())


@pytest.mark.parametrize("record", PEER["models"], ids=lambda record: record["family"])
@torch.no_grad()
def test_routed_predictions_are_those_of_simpletuner(record):
    family = FAMILIES.load(record["family"])
    denoiser = family.tiny(record["variant"]).denoiser
    generator = torch.Generator().manual_seed(0)
    for _, value in sorted(denoiser.named_parameters()):
        value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    conditioning = {"text": normal(2, 7, 32, seed=2), "pooled": normal(2, 32, seed=3)}
    noisy, t = normal(2, 16, 1, 4, 6, seed=1), torch.tensor([0.3, 0.8])
    assert len(record["windows"]) >= 3
    for window in record["windows"]:
        theirs = torch.tensor(window["every_37th"]).view(2, -1)
        span = (window["start"], window["end"])
        for tokens, agrees in ((record["kept"], True), ([[1, 4, 2]], False)):
            with carry_tokens(family, denoiser, torch.tensor(tokens), span):
                ours = family.predict(denoiser, noisy, t, conditioning).flatten(1)[:, ::37]
            assert torch.allclose(ours, theirs, atol=1e-3, rtol=1e-4) is agrees
