"""Streams of the pocket family: a UNet's for its UNets, Wan's for its transformer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from frisket.families.models.pocket.transformer import PICTURE_CHANNELS, is_transformer
from frisket.families.shared.streams.planes import WAN, WanStreams
from frisket.families.shared.streams.unet import TABLE, UNetStreams
from frisket.families.streams import DenoiserCall, NameTable, Stream

UNET, TRANSFORMER = UNetStreams(channels=PICTURE_CHANNELS), WanStreams()


@dataclass(frozen=True, slots=True)
class PocketStreams(NameTable):
    """Modules of both kinds have different names; a call is read by the kind that is called."""

    table: tuple[tuple[str, Stream], ...] = (*TABLE, *WAN)

    def read(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DenoiserCall:
        """What a call is about."""
        streams = TRANSFORMER if is_transformer(model) else UNET
        return streams.read(model, args, kwargs)
