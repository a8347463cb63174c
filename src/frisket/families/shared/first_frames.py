"""What an image-to-video model is shown: a clip whose first frame is another picture."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from frisket.families.base import References
from frisket.media.geometry import Geometry
from frisket.shapes import Clip, Plane

KEPT = 0.5  # a pixel of `keep` is kept above this: the models know all or nothing


def lay_first(clip: Clip, references: References) -> Clip:
    """The clip with a reference picture as its first frame; the clip itself without one.

    The picture is cut to the clip's size as training clips are (cover, centre crop). Pixels in
    [-1, 1]. ValueError for more than one picture: a clip has one first frame.
    """
    if not references:
        return clip
    if len(references) > 1:
        raise ValueError(f"a clip has one first frame, {len(references)} pictures are given for it")
    picture = references[0].cpu()
    source = (picture.shape[1], picture.shape[2])
    target = (clip.shape[3], clip.shape[4])
    led_clip = clip.clone()
    led_clip[:, :, :1] = Geometry(source, target, (0,)).pixels(picture)[None].to(clip)
    return led_clip


def mark_whole(keep: Plane, size: int, temporal: int) -> Tensor:
    """Where a model is handed whole cells: 1 where `keep` keeps every pixel behind one, f h w.

    `size` is the side of a cell in pixels (F H W must be cut into cells already). Latent frame 0 is
    pixel frame 0, each further one `temporal` frames.
    """
    small = -functional.max_pool2d(-(keep > KEPT)[:, None].float(), size)[:, 0]
    later = small[1:].unflatten(0, (-1, temporal)).amin(1) if len(small) > 1 else small[1:]
    return functional.pad(later, (0, 0, 0, 0, 1, 0)) + functional.pad(
        small[:1], (0, 0, 0, 0, 0, len(later))
    )


def require_condition(conditioning: Mapping[str, Tensor], names: tuple[str, ...]) -> None:
    """ValueError where `image_conditioning` of a text-to-video variant is to be held."""
    missing = [name for name in names if name not in conditioning]
    if missing:
        raise ValueError(
            f"there is no {' and no '.join(missing)} to sample under: image_conditioning of an"
            " image-to-video variant makes it"
        )


@contextmanager
def replace_method(
    pipeline: nn.Module | Any, name: str, change: Callable[[Any], Any]
) -> Iterator[None]:
    """Inside, `change` is applied to whatever the pipeline's method `name` returns."""
    stock: Callable[..., Any] = getattr(pipeline, name)

    @wraps(stock)
    def call_and_change(*args: Any, **kwargs: Any) -> Any:
        return change(stock(*args, **kwargs))

    setattr(pipeline, name, call_and_change)
    try:
        yield
    finally:
        delattr(pipeline, name)
