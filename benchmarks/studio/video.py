"""Frames of a 1080p clip in any order, and a painted frame carried against exact masks.

    python benchmarks/studio/video.py

Prints milliseconds a frame (next, back, random, as JPEG) and, clip by clip, the mean IoU of the
regions half-way and at the end, with the confidence that was given. Needs no weights; the CPU.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frisket.maskgen.tracking.flow import FlowCarrier, measure_overlap
from frisket.media.seeking import VideoReader
from frisket.pocket.world import CREATURES, ZIGZAG, Background, Scene, draw, frames_of
from frisket.recipes.serve.ops.frames import encode_picture, shrink_picture

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
FRAMES, GROUP = 240, 48  # of the 1080p clip, a key frame every two seconds
Footage = tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]  # pictures, exact labels


def write_clip(path: Path) -> None:
    """A photograph that moves, 1920 x 1080, H.264."""
    with Image.open(PHOTOS / "clips" / "astronaut.jpg") as image:
        picture = np.asarray(image.convert("RGB").resize((1920, 1920)))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=24, options={"crf": "20", "g": str(GROUP)})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for index in range(FRAMES):
            part = np.roll(picture, index * 7, 1)[200 + index : 1280 + index]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(part), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def measure(name: str, work: Callable[[int], object], order: list[int]) -> None:
    """Milliseconds of each call: the middle one and the worst."""
    spent = []
    for index in order:
        begin = time.perf_counter()
        work(index)
        spent.append((time.perf_counter() - begin) * 1000)
    print(f"{name:28} median {np.median(spent):7.1f} ms   worst {max(spent):7.1f} ms")


def measure_frames() -> None:
    """How long a frame takes that is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path)
        reader = VideoReader(path)
        begin = time.perf_counter()
        reader.read(0)
        print(f"{'opened, first frame':28} {(time.perf_counter() - begin) * 1000:14.1f} ms")
        measure("next", reader.read, list(range(1, 100)))
        measure("back", reader.read, list(range(99, 0, -1)))
        order = np.random.default_rng(0).permutation(FRAMES)[:40].tolist()
        measure("random", reader.read, order)
        picture = np.asarray(reader.read(100), np.uint8)
        for width in (1920, 960):
            small = shrink_picture(picture, width)
            measure(f"JPEG {width}", lambda _, it=small: encode_picture(it, "jpeg"), [0] * 9)
            measure(f"WebP {width}", lambda _, it=small: encode_picture(it, "webp"), [0] * 9)


def make_pocket(size: int, motion: str, shape: str, ground: Background, frames: int) -> Footage:
    """A scene of the pocket world with the labels of its parts."""
    scene = Scene(ground, shape, "" if shape in CREATURES else "red", 16.0, 16.0, 8.0, motion)
    pictures, labels = [], []
    for moment in frames_of(scene, frames, 12 / frames):
        picture, planes = draw(moment, size)
        blank = np.full(picture.shape[:2], 0.5)
        pictures.append(picture)
        labels.append(np.stack([blank, *planes.values()]).argmax(0).astype(np.uint8))
    return pictures, labels


def make_photo(frames: int, *, before_another: bool) -> Footage:
    """A portrait that turns, grows, bends and shakes a little, with noise."""
    with Image.open(PHOTOS / "clips" / "astronaut.jpg") as image:
        portrait = np.asarray(image.convert("RGB"))
    with Image.open(PHOTOS / "masks" / "astronaut.png") as image:
        grey = np.asarray(image.convert("L"))
    with Image.open(PHOTOS / "clips" / "grace-hopper.jpg") as image:
        behind = np.asarray(image.convert("RGB").resize((512, 512)))
    exact = np.select([grey > 192, grey > 104, grey > 40], [1, 3, 2], 0).astype(np.uint8)
    rng = np.random.default_rng(0)
    pictures, labels = [], []
    rows, columns = np.mgrid[:512, :512].astype(np.float32)
    for index in range(frames):
        at = index / (frames - 1)
        turn = cv2.getRotationMatrix2D((256, 256), 10 * np.sin(at * 6.28), 1 + 0.15 * at)
        turn[:, 2] += 60 * at * np.cos(3 * at), 20 * np.sin(5 * at)
        back = cv2.invertAffineTransform(turn)
        x = columns + 4 * np.sin(rows / 40 + at * 6)
        y = rows + 3 * np.sin(columns / 50 + at * 5)
        places = [(line[0] * x + line[1] * y + line[2]).astype(np.float32) for line in back]
        picture = cv2.remap(portrait, *places, cv2.INTER_LINEAR).astype(np.float32)
        label = np.asarray(cv2.remap(exact, *places, cv2.INTER_NEAREST), np.uint8)
        if before_another:
            cover = cv2.GaussianBlur((label > 0).astype(np.float32), (0, 0), 1)[..., None]
            picture = picture * cover + np.roll(behind, int(-40 * at), 1) * (1 - cover)
        noisy = picture + rng.normal(0, 4, picture.shape)
        pictures.append(np.clip(noisy, 0, 255).astype(np.uint8))
        labels.append(label)
    return pictures, labels


def list_footage() -> Iterator[tuple[str, Footage]]:
    """Clips with exact masks, from easy to what only painting mends."""
    stripes, dots = Background("stripes", "red", "blue"), Background("dots", "green", "yellow")
    checks = Background("checks", "blue", "white")
    yield "creature on zigzag, 256 px", make_pocket(256, "rightward", "sks", ZIGZAG, 24)
    yield "creature on stripes, 128 px", make_pocket(128, "falling", "sks", stripes, 24)
    yield "circle on dots, 128 px", make_pocket(128, "leftward", "circle", dots, 24)
    yield "cross on checks, 64 px", make_pocket(64, "rising", "cross", checks, 24)
    yield "portrait that turns, 512 px", make_photo(32, before_another=False)
    yield "portrait before another", make_photo(32, before_another=True)


def measure_tracking() -> None:
    """IoU with the exact masks, of one painted frame carried forward."""
    print(f"{'clip':28} {'mean':>6} {'half':>6} {'end':>6} {'sure at end':>12} {'ms a frame':>11}")
    for name, (pictures, labels) in list_footage():
        carrier = FlowCarrier(pictures[0], labels[0])
        scores, begin = [], time.process_time()
        for picture, truth in zip(pictures[1:], labels[1:], strict=True):
            found = carrier.step(picture)
            scores.append(measure_overlap(found, truth, carrier.regions))
        spent = (time.process_time() - begin) / len(scores) * 1000
        half = scores[len(scores) // 2]
        print(
            f"{name:28} {np.mean(scores):6.3f} {half:6.3f} {scores[-1]:6.3f}"
            f" {carrier.confidence:12.2f} {spent:11.0f}"
        )


def main() -> None:
    """Both, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["frames", "tracking"])
    what = parser.parse_args().what
    if what != "tracking":
        measure_frames()
    if what != "frames":
        measure_tracking()


if __name__ == "__main__":
    main()
