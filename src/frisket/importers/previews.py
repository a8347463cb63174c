"""Previews that another trainer asks for, as the model here can make them."""

from collections.abc import Callable, Mapping
from typing import Any

from frisket.families.base import FAMILIES

Tell = Callable[[str, str, bool], None]  # key of [preview], sentence, whether it is a loss
NEEDS = {"first_frame": "goes on from a first frame", "pictures": "works from pictures"}


def fit_preview(preview: Mapping[str, Any], model: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """`[preview]` with sides, frames and pictures that the variant of `[model]` takes.

    Sides are cut to the model's steps and frames go to the length its public pipeline would make
    (40 are 41 of 1 + n * 4). Previews of a model that needs pictures and has none are switched off,
    for training would stop at them. Without a family nothing changes.
    """
    fitted = dict(preview)
    if "family" not in model:
        return fitted
    family = FAMILIES.load(str(model["family"]))
    card = family.variants[str(model.get("variant") or family.default)]
    step, fold = card.grid.step, card.grid.temporal
    for key in ("width", "height"):
        side = max(fitted[key] // step, 1) * step if key in fitted else 0
        if side and side != fitted[key]:
            tell(key, f"is preview.{key} = {side} here: sides are multiples of {step}", False)
            fitted[key] = side
    frames = fitted.get("frames", 1)
    longer = frames if frames % fold == 1 or fold == 1 else frames // fold * fold + 1
    longer = longer if card.video else 1
    if longer != frames:
        reason = (
            f"1 + n * {fold} frames" if card.video else "a picture, for this model makes no video"
        )
        tell("frames", f"is preview.frames = {longer} here: {reason}", False)
        fitted["frames"] = longer
    return fitted | _fit_pictures(fitted, card.sees, tell)


def _fit_pictures(preview: Mapping[str, Any], sees: str, tell: Tell) -> dict[str, Any]:
    images = list(preview.get("images", ()))
    if sees == "nothing":
        if images:
            tell("images", "this model looks at no pictures: they are left out", True)
        return {"images": []}
    if not images and preview.get("every", 0) and preview.get("prompts"):
        message = (
            f"this model {NEEDS[sees]}, and there are none here: nothing is sampled while training"
            " (preview.every = 0) until preview.images names them"
        )
        tell("images", message, True)
        return {"every": 0}
    if sees == "first_frame" and len(images) > 1:
        tell("images", "this model takes one picture: the first", True)
        return {"images": images[:1]}
    return {}
