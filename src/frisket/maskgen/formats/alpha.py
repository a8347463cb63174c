"""Pictures that carry their mask as transparency: RGBA PNG."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from frisket.maskgen.format_base import (
    BAKED,
    GREY,
    BadExchange,
    Exchange,
    Masked,
    bake_weights,
    check_free,
    check_size,
    get_still,
    match_clips,
)
from frisket.media.files import find
from frisket.media.frames import decode, probe, stream
from frisket.media.paths import replacing


def write(
    folder: Path,
    items: Iterable[Masked],
    weights: Mapping[str, float],
    *,
    overwrite: bool = False,
) -> Iterator[Path]:
    """name.png: the picture upright, its colours kept where it is transparent.

    BadExchange for a video, and for the clip folder itself, where a.png would be the twin of a.jpg.
    """
    for item in items:
        path = folder / f"{item.name}.png"
        if path.parent.resolve() == item.clip.path.parent.resolve():
            raise BadExchange(
                f"{path}: would lie among the clips as one more clip; give another folder"
            )
        grey = bake_weights(get_still(item, "an alpha channel"), weights, item.clip)
        pixels = np.dstack([decode(item.clip.path)[0].numpy(), grey.numpy()])
        with replacing(check_free(path, overwrite=overwrite)) as draft:
            Image.fromarray(pixels).save(draft, format="PNG")
        yield path


def read(source: Path, clips: Path) -> Iterator[Masked]:
    """The transparency of the pictures in `source`, for the clips of the same names."""
    pictures = find(source, masks="alpha", folders={}).clips
    paths = {f"{files.name}.png": files.clip for files in pictures if files.alpha}
    for name, clip, path in match_clips(source, clips, paths):
        picture = probe(path)
        check_size(path, clip, picture.height, picture.width)
        yield Masked(name, clip, ({GREY: plane} for plane in stream(path, "alpha")))


EXCHANGE = Exchange(
    summary="RGBA PNG, opaque where it teaches (`alpha_mask` of kohya and ai-toolkit)",
    lossy=f"{BAKED} ComfyUI's mask is the reverse, 1 - alpha: put an InvertMask behind LoadImage.",
    write=write,
    read=read,
    missing="Its picture is not in the folder either, so it is not trained on.",
    grey=True,
)
