"""Lines as a pen would draw them: the dark side of borders, by a difference of Gaussians."""

import cv2
import numpy as np
import torch

from frisket.control.base import ControlKind, ControlPicture, Drawer, DrawRequest, KindUnusable
from frisket.control.frames import FrameDrawer
from frisket.licence import Licence

SIDE = 512  # pixels of the shorter side at which `width` is meant
WIDER = 1.6  # of the second Gaussian: near the Laplacian of a Gaussian (Marr and Hildreth)
WIDE_SHARE = 0.99  # share of the wider blur: what is flat, noise included, stays below 0
STEEPNESS = 0.75  # of the soft threshold


def load(request: DrawRequest) -> Drawer:
    """White lines on black, as ControlNets of line art read them; `width` in pixels at 512.

    After Winnemoeller, Olsen and Gooch (Real-Time Video Abstraction, 2006), equation 3 turned
    round: a line is tanh(0.75 e) where e = 100 (0.99 G_1.6s - G_s) > 0 of the luminance in [0, 1].
    KindUnusable for a width of 0 or less.
    """
    width = request.options["width"]
    if not width > 0:
        raise KindUnusable(f"lineart: width = {width:g} draws nothing; give pixels above 0")

    def paint(frame: ControlPicture) -> ControlPicture:
        grey = cv2.cvtColor(frame.contiguous().numpy(), cv2.COLOR_RGB2GRAY)
        light = grey.astype(np.float32) / 255
        sigma = max(width * min(light.shape) / SIDE, 0.4)
        narrow = cv2.GaussianBlur(light, (0, 0), sigma)
        wide = cv2.GaussianBlur(light, (0, 0), WIDER * sigma)
        lines = np.tanh(STEEPNESS * np.maximum(100 * (WIDE_SHARE * wide - narrow), 0))
        levels = torch.from_numpy((lines * 255).round().astype(np.uint8))
        return levels[..., None].expand(-1, -1, 3).contiguous()

    return FrameDrawer(paint)


KIND = ControlKind(
    summary="white pen lines on black, soft where a border is faint (width)",
    licence=Licence(code="Frisket's own", weights=""),
    load=load,
    options={"width": 1.0},
)
