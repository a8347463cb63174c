"""Image adapters on a UNet against the authors' processors, as scripts/record_faceid.py has it."""

from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.inference.plugins import faceid_scene
from tests.inference.plugins.scene import load_family

from frisket.inference.methods.identity.adapter_layers import (
    build_image_adapter,
    list_expert_places,
    name_layers,
)
from frisket.inference.methods.identity.face_lora import build_face_lora
from frisket.inference.methods.identity.image_attention import ImageAttention, RowOwners
from frisket.inference.methods.identity.reference_tokens import ReferenceTokens

PEERS = load_file(Path(__file__).with_name("peers.safetensors"))


@pytest.mark.parametrize("name", faceid_scene.CASES)
@torch.no_grad()
def test_a_unet_predicts_what_the_authors_processors_predict(name: str) -> None:
    kind, scale, lora_scale = faceid_scene.CASES[name]
    family, model = load_family("stable_diffusion"), faceid_scene.build_model()
    call = faceid_scene.draw_call()
    file = faceid_scene.build_case_file(kind, model)
    names = name_layers(file, name, family, model)
    tokens = ReferenceTokens(call["tokens"], torch.zeros(1, 4, 64))
    adapter = build_image_adapter(file, tokens, scale=scale, names=names)
    attention = ImageAttention(list_expert_places(family, model), [adapter])
    lora = build_face_lora(file, name, model, lora_scale)

    def predict() -> torch.Tensor:
        prediction: torch.Tensor = model(call["sample"], call["timestep"], call["text"]).sample
        return prediction

    bare = predict()
    with ExitStack() as stack:
        stack.enter_context(
            attention.attach_branches(lambda _: RowOwners(torch.arange(2), (True, True)))
        )
        if lora is not None:
            stack.enter_context(lora.attach(attention))
        given = predict()
    assert (given - bare).abs().max() > 0.01
    # 0 where it was recorded; processors of another kind sum a whole UNet in another order.
    torch.testing.assert_close(given, PEERS[name], rtol=0, atol=5e-5)
    assert torch.equal(predict(), bare)
