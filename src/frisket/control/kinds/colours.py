"""Blocks of colour: which colours lie where, without any shape."""

from functools import partial

from frisket.control.base import ControlKind, Drawer, DrawRequest, KindUnusable
from frisket.control.frames import FrameDrawer, paint_structure
from frisket.licence import Licence
from frisket.losses.structure import BLOCKS, average_colours


def load(request: DrawRequest) -> Drawer:
    """`losses.structure.average_colours` of each frame, with `blocks` on its shorter side.

    The loss term of the same name compares with the same function. KindUnusable for no blocks.
    """
    blocks = round(request.options["blocks"])
    if blocks < 1:
        raise KindUnusable(f"colours: blocks = {blocks} should be 1 or more, such as 16")
    return FrameDrawer(paint_structure(partial(average_colours, blocks=blocks)))


KIND = ControlKind(
    summary="blocks of the mean colour (blocks)",
    licence=Licence(code="Frisket's own", weights=""),
    load=load,
    options={"blocks": float(BLOCKS)},
)
