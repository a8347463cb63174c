"""Record what FFmpeg's own program shows of turned and wide-coloured videos, as test data.

    python scripts/record_ffmpeg_display.py FFMPEG tests/media/moving/ffmpeg.json

FFMPEG is the program with libzimg. Turns: the levels of the four corners it shows for each display
matrix. Colours: the sRGB levels that zscale gives for patches of wide gamuts and of HDR.
"""

import json
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

CORNERS = (0, 85, 170, 255)  # top left, top right, bottom left, bottom right
PATCHES = (
    (120, 40, 40),
    (40, 110, 60),
    (60, 60, 120),
    (128, 128, 128),
    (30, 30, 30),
    (110, 90, 70),
)
# Light is measured from diffuse white at 203 cd/m2 (ITU-R BT.2408).
CONVERTED = (
    "zscale=agamma=false:t=linear:npl=203:p=709:m=gbr,format=gbrpf32le,"
    "zscale=agamma=false:t=iec61966-2-1,format=gbrp"
)
# Name: primaries, curve, filter.
COLOURS = {
    "p3": (12, 13, CONVERTED),
    "bt2020": (9, 13, CONVERTED),
    "pq": (9, 16, CONVERTED),
    "hlg": (9, 18, CONVERTED),
}
# Below the knee of our tone curve, which no filter of FFmpeg's has.
DARK = ((115, 98, 92), (90, 108, 95), (92, 90, 114), (100, 100, 100), (60, 60, 60), (110, 105, 90))
LEVELS = {"p3": PATCHES, "bt2020": PATCHES, "pq": DARK, "hlg": DARK}


def show(ffmpeg: str, path: Path, pixels: str, *filters: str) -> np.ndarray:
    command = [ffmpeg, "-v", "error", "-i", str(path), *filters, "-frames:v", "1"]
    command += ["-f", "rawvideo", "-pix_fmt", pixels, "-"]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.uint8)


def turns(ffmpeg: str, folder: Path) -> list[dict[str, list[int]]]:
    found = []
    frame = np.kron(np.array(CORNERS, np.uint8).reshape(2, 2), np.ones((32, 48), np.uint8))
    for crossed, first, second in product((False, True), (1, -1), (1, -1)):
        matrix = [0] * 9
        matrix[8] = 1 << 30
        matrix[1 if crossed else 0], matrix[3 if crossed else 4] = first << 16, second << 16
        path = folder / "turn.mov"
        with av.open(str(path), "w") as out:
            stream = out.add_stream("qtrle", rate=10)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "gray"
            stream.set_display_matrix(matrix)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
            out.mux(stream.encode())
        shape = (96, 64) if crossed else (64, 96)
        seen = show(ffmpeg, path, "gray").reshape(shape)
        found.append(
            {"matrix": matrix, "corners": seen[:: shape[0] - 1, :: shape[1] - 1].ravel().tolist()}
        )
    return found


def write_patches(
    path: Path, patches: tuple[tuple[int, ...], ...], primaries: int, curve: int
) -> None:
    """Patches of 16 x 16 in a row, 10 bits a channel, levels of 255 scaled to full range."""
    row = np.repeat(np.array(patches, np.float64) / 255 * 65535, 16, 0)
    deep = np.repeat(np.rint(row).astype(np.uint16)[None], 16, 0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = deep.shape[0], deep.shape[1], "yuv444p10le"
        told = stream.codec_context
        told.colorspace, told.color_primaries, told.color_trc = 9, primaries, curve
        told.color_range = ColorRange.MPEG
        frame = av.VideoFrame.from_ndarray(deep, format="rgb48le").reformat(
            format="yuv444p10le", dst_colorspace=Colorspace.BT2020, dst_color_range=ColorRange.MPEG
        )
        out.mux(stream.encode(frame))
        out.mux(stream.encode())


def colours(ffmpeg: str, folder: Path) -> dict[str, dict[str, list[list[int]]]]:
    found = {}
    for name, (primaries, curve, filters) in COLOURS.items():
        path = folder / "patches.mkv"
        write_patches(path, LEVELS[name], primaries, curve)
        seen = show(ffmpeg, path, "rgb24", "-vf", filters).reshape(16, -1, 3)[8, 8::16]
        found[name] = {
            "tags": [primaries, curve],
            "levels": [list(patch) for patch in LEVELS[name]],
            "shown": seen.tolist(),
        }
    return found


if __name__ == "__main__":
    program, output = sys.argv[1:]
    version = subprocess.run([program, "-version"], check=True, capture_output=True, text=True)
    with tempfile.TemporaryDirectory() as scratch:
        told = {
            "from": version.stdout.splitlines()[0],
            "turns": turns(program, Path(scratch)),
            "colours": colours(program, Path(scratch)),
        }
    Path(output).write_text(json.dumps(told, indent=1) + "\n")
