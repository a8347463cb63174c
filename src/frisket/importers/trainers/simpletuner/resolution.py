"""Sizes and frames of SimpleTuner's data sets, as options of [[data]]."""

from typing import Any

from frisket.importers.options import OptionTable, drop_unset

RATE, SECONDS = 30, 5  # frames of a video set that names no number


def owner_of(row: OptionTable, trainer: OptionTable, name: str) -> OptionTable:
    """Where an option stands: with the data set, or for all of them with the trainer."""
    return trainer if name in trainer and name not in row else row


def shape_of(row: OptionTable, trainer: OptionTable) -> dict[str, Any]:
    """Resolution and buckets of a data set, with what its crops do otherwise."""
    owner = owner_of(row, trainer, "resolution")
    size = owner.number("resolution", 1024, low=0)
    kind = owner_of(row, trainer, "resolution_type").choice(
        "resolution_type", ("pixel_area", "area", "pixel"), "pixel_area"
    )
    side = round((size * 1e6) ** 0.5 if kind == "area" else size)
    if side < 1:
        raise row.bad("resolution", "a number above 0 is needed")
    if "resolution" not in owner:
        owner.say("resolution", "mapped", "is data.resolution here, its default", 1024)
    crop = row.flag("crop")
    square = crop and row.text("crop_aspect", "square") == "square"
    if kind == "pixel" and not square:
        message = "there it is the shorter side of a clip, here the side of a square of equal area"
        owner.say("resolution", "no equivalent", f"{message}: raise it for wide clips")
    if crop:
        _tell_crop(row)
    sized = [side, side] if square else side
    return {"resolution": sized, "buckets": not square}


def _tell_crop(row: OptionTable) -> None:
    style = row.text("crop_style", "random")
    if style != "center":
        message = f"crops at {style} places there; here the middle is kept"
        row.say("crop_style", "no equivalent", message, "random")
    if not (row.number("maximum_image_size") and row.number("target_downsample_size")):
        message = (
            "without maximum_image_size and target_downsample_size it cuts a piece of that size"
            " out of larger pictures; here the whole picture is made smaller first"
        )
        row.say("crop", "no equivalent", message)


def frames_of(row: OptionTable, kind: str, trainer: OptionTable) -> dict[str, Any]:
    """How frames are taken of a data set's videos; nothing of one of pictures."""
    table = row.table("video", "video")
    frames: dict[str, Any] = {}
    if kind == "video":
        frames = {"fps": "own", "extract": "head"}
        strategy = table.choice(
            "bucket_strategy", ("aspect_ratio", "resolution_frames"), "aspect_ratio"
        )
        if strategy == "resolution_frames" and "num_frames" not in table:
            frames["extract"] = "full"
            frames |= drop_unset(max_frames=table.whole("max_frames") or None)
        else:
            default = int(trainer.number("framerate", RATE) * SECONDS)
            frames["frames"] = table.whole("num_frames", default, low=1)
            if "num_frames" not in table:
                table.say("num_frames", "mapped", "is data.frames here, its default", default)
            if "max_frames" in table:
                message = (
                    "longer videos are not left out, their beginning is trained: move them out"
                )
                table.say("max_frames", "no equivalent", message)
    table.close()
    return frames
