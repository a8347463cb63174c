"""Where light and dark lie: the blurred luminance."""

from functools import partial

from frisket.control.base import ControlKind, Drawer, DrawRequest, KindUnusable
from frisket.control.frames import FrameDrawer, paint_structure
from frisket.licence import Licence
from frisket.losses.structure import SHARE, blur_luminance


def load(request: DrawRequest) -> Drawer:
    """`losses.structure.blur_luminance` of each frame; `blur` is a share of its shorter side.

    The loss term of the same name compares with the same function. KindUnusable for a blur of 0 or
    less, or of more than half the picture.
    """
    share = request.options["blur"]
    if not 0 < share <= 0.5:
        raise KindUnusable(
            f"luma: blur = {share:g} should be a share of the shorter side above 0, at most 0.5"
        )
    return FrameDrawer(paint_structure(partial(blur_luminance, share=share)))


KIND = ControlKind(
    summary="the luminance, blurred: where light and dark lie (blur)",
    licence=Licence(code="Frisket's own", weights=""),
    load=load,
    options={"blur": SHARE},
)
