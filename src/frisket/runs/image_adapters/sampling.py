"""An image adapter as it is now, as a method of sampling: for previews while it trains."""

from typing import Any, cast

import torch
from torch import nn

from frisket.adapters.image.adapter import ImageAdapterModules, find_image_adapter
from frisket.adapters.image.instantid import InstantIdModules
from frisket.adapters.image.numbering import list_places, number_layers
from frisket.adapters.image.uniid import UniIdTextProjection
from frisket.families.base import Family
from frisket.inference.methods.base import Method
from frisket.inference.methods.identity import image_attention
from frisket.inference.methods.identity.image_attention import ImageAttention
from frisket.inference.methods.identity.instantid.method import (
    InstantIdMethod,
    InstantIdStrength,
    PosedFace,
)
from frisket.inference.methods.identity.instantid.pose import Strokes
from frisket.inference.methods.identity.rescale import MergeSchedule
from frisket.inference.methods.identity.token_layers import name_layers
from frisket.inference.methods.identity.unets import find_unet
from frisket.inference.methods.identity.uniid.method import UniId
from frisket.inference.methods.identity.uniid.words import FaceWords
from frisket.runs.image_adapters.references import ReferenceSet

FULL_STRENGTH = MergeSchedule(0, (1.0, 1.0), (1.0, 1.0))  # as it was trained: in full in every step
POSE_SIDE = 1024  # pixels of the square that a preview's key points are told in


@torch.no_grad()
def make_sampling_method(
    family: Family, denoiser: nn.Module, references: ReferenceSet, strokes: Strokes = "fixed"
) -> Method:
    """The adapter with the first clip's reference, against no picture; `strokes` are InstantID's.

    Of InstantID the key points are that clip's as well (none: its attention alone).
    """
    adapter = find_image_adapter(denoiser)
    assert adapter is not None
    weight = next(adapter.parameters())
    tokens = adapter.project_rows(references.show_first().to(weight))
    if isinstance(adapter.image_proj, UniIdTextProjection):
        parts = torch.split(tokens, list(adapter.image_proj.widths), dim=-1)
        places = list(list_places(family, denoiser).values())
        return UniId(
            denoiser, places, FaceWords(parts, None), None, schedule=FULL_STRENGTH, rescale=False
        )
    negative = adapter.project_rows(references.blank[None].to(weight))
    layers = name_layers(adapter.ip_adapter, number_layers(family, denoiser))
    places = list(list_places(family, denoiser).values())
    points = references.show_first_points()
    if adapter.identity_net is not None and points is not None:
        unet = find_unet(denoiser)
        assert unet is not None
        face = PosedFace(tokens, negative, points * POSE_SIDE - 0.5, (POSE_SIDE, POSE_SIDE))
        return InstantIdMethod(
            unet,
            places,
            layers,
            _view_modules(adapter),
            face,
            InstantIdStrength(strokes=strokes),
            masks={},
        )
    sampled = image_attention.ImageAdapter(layers.keys, layers.values, tokens, negative)
    return ImageAttention(places, [sampled])


def _view_modules(adapter: ImageAdapterModules) -> InstantIdModules:
    """What a method reads of InstantID, without a second place for its parts."""
    return InstantIdModules(adapter, cast(Any, adapter.identity_net))
