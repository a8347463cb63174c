"""Edges by Canny (PAMI 1986) with two thresholds, as the ControlNets of edges were trained on."""

import cv2
import torch

from frisket.control.base import ControlKind, ControlPicture, Drawer, DrawRequest, KindUnusable
from frisket.control.frames import FrameDrawer
from frisket.licence import Licence


def load(request: DrawRequest) -> Drawer:
    """White edges on black; `low` and `high` are cv2's hysteresis thresholds, 0 to 1020.

    Of the colour picture, as ControlNet's own annotator (cv2.Canny(picture, 100, 200)): each
    pixel has the gradient of the channel where it is steepest. KindUnusable for thresholds the
    wrong way round.
    """
    low, high = request.options["low"], request.options["high"]
    if not 0 <= low <= high:
        raise KindUnusable(
            f"canny: low = {low:g} and high = {high:g}: give 0 <= low <= high, such as low=100"
            " high=200"
        )

    def paint(frame: ControlPicture) -> ControlPicture:
        edges = torch.from_numpy(cv2.Canny(frame.contiguous().numpy(), low, high))
        return edges[..., None].expand(-1, -1, 3).contiguous()

    return FrameDrawer(paint)


KIND = ControlKind(
    summary="thin white edges on black, by two thresholds (low, high)",
    licence=Licence(code="Apache-2.0 (OpenCV)", weights=""),
    load=load,
    options={"low": 100.0, "high": 200.0},
)
