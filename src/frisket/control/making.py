"""Draws the control of one clip to disk: a PNG of a picture, a lossless video of a video."""

from collections.abc import Container
from pathlib import Path

from frisket.control.base import Drawer, KindUnusable
from frisket.media.frames import Media, decode, open_video_writer, probe, stream, write_image
from frisket.media.paths import IMAGES, VIDEOS

UNTOLD = 25.0  # frames a second of a control video whose clip tells no rate


def name_control(folder: Path, name: str, media: Media) -> Path:
    """Where the control of a clip lies: its name and sub-folder, `.png` or `.mkv`."""
    return folder / f"{name}{'.mkv' if media.video else '.png'}"


def list_controls(folder: Path, name: str, parents: Container[str] = ()) -> dict[str, Path]:
    """What is there under a clip's name, by file name: pictures, videos, a folder of frames.

    A folder among `parents`, those that other clips' controls lie in, is none of frames.
    """
    place, stem = (folder / name).parent, Path(name).name
    paths = sorted(place.iterdir()) if place.is_dir() else []
    files = {
        path.name: path
        for path in paths
        if path.suffix.lower() in (*IMAGES, *VIDEOS)
        and path.name[: -len(path.suffix)] == stem
        and path.is_file()
    }
    frames = folder / name
    is_frames = name not in parents and frames.is_dir()
    if is_frames and any(path.suffix.lower() in IMAGES for path in frames.iterdir()):
        files[frames.name] = frames
    return files


def make_control(clip: Path, drawer: Drawer, path: Path) -> None:
    """Draw the control of a clip and write it to `path`, whole or not at all.

    Of the clip's size as seen, a video frame by frame, of as many frames and its rate, bit for bit
    (FFV1). Raises BadMedia where the clip does not decode, RuntimeError where a kind gives another
    number of frames.
    """
    media = probe(clip)
    if not media.video:
        for picture in drawer.draw([decode(clip, (0,))[0]]):
            write_image(path, picture)
        return
    count = 0
    with open_video_writer(path, media.fps or UNTOLD) as video:
        for picture in drawer.draw(stream(clip)):
            video.add(picture)
            count += 1
        if count != media.frames:
            raise RuntimeError(f"{clip}: {count} control frames for {media.frames} of the clip")


def remove_others(
    folder: Path, name: str, current_path: Path, parents: Container[str] = ()
) -> None:
    """Remove what else has a clip's name; KindUnusable for a folder of frames, which stays."""
    for path in list_controls(folder, name, parents).values():
        if path.is_dir():
            raise KindUnusable(
                f"{path}: is a folder of frames of the same name; remove it, or give another -o"
            )
        if path != current_path:
            path.unlink()
