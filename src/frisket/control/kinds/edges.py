"""Soft edges: the Sobel gradient's length, which the consistency loss compares by default."""

from frisket.control.base import ControlKind, Drawer, DrawRequest
from frisket.control.frames import FrameDrawer, paint_structure
from frisket.licence import Licence
from frisket.losses.structure import find_edges


def load(_: DrawRequest) -> Drawer:
    """`losses.structure.find_edges` of each frame, as grey: white is a step from black to white."""
    return FrameDrawer(paint_structure(find_edges))


KIND = ControlKind(
    summary="soft edges: how steep the luminance is, without a threshold",
    licence=Licence(code="Frisket's own", weights=""),
    load=load,
    options={},
)
