"""Pictures that are there twice: perceptual hashes, a banded search, and what a twin does."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from frisket.inspection.findings import Finding

BITS = 128
BANDS, WIDE = 32, 12  # bands of the search, and bits of each
ALIKE = 28  # differing bits up to which two pictures are looked at again
SMALL = 16  # pixels a side of the picture that is kept
NEAR = (7.0, 30.0)  # levels that twins differ by: root of the mean square, and at most
EXACT = 1.0  # levels (root of the mean square) below which nobody could tell them apart
CROWD = 64  # of one bucket are compared with as many before them: the search stays linear


@dataclass(frozen=True, slots=True)
class Print:
    """What is kept of a picture to know it again: 1 kB."""

    bits: int  # 128, half of gradients (dHash), half of frequencies (pHash)
    small: bytes  # 16 x 16 x 3


def compute_print(picture: UInt8[np.ndarray, "H W 3"]) -> Print:
    """The fingerprint of a picture; the same within a few bits after resizing or saving it again.

    dHash: signs of the differences between neighbours on 9 x 8 means. pHash: signs against the
    median of the 8 x 8 lowest frequencies of the cosine transform of 32 x 32 means (Zauner 2010,
    section 3.2.1). Both of the grey picture.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    steps = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    waves = cv2.dct(cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA))[:8, :8].copy()
    waves[0, 0] = 0  # brightness
    signs = np.concatenate(
        [(steps[:, 1:] > steps[:, :-1]).ravel(), (waves > np.median(waves)).ravel()]
    )
    small = cv2.resize(picture, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    return Print(int.from_bytes(np.packbits(signs).tobytes(), "big"), small.tobytes())


def find_twins(prints: Sequence[Print]) -> list[tuple[int, int, bool]]:
    """Pairs (earlier, later, whether exact) of pictures that are one; each later one once.

    Bit sampling (Indyk and Motwani 1998): only pictures that agree in 12 bits drawn at random, in
    one of 32 draws, are compared; pictures that differ in 20 of 128 bits are missed one time in
    ten, in 12 hardly ever. What agrees is then compared by its small picture, brightness and
    contrast set alike, so that another pose before the same background is no twin.
    """
    pairs: dict[int, tuple[int, bool]] = {}
    for earlier, later in sorted(_list_candidates([picture.bits for picture in prints])):
        if later in pairs:
            continue
        exact_match = _compare(prints[earlier], prints[later])
        if exact_match is not None:
            pairs[later] = (earlier, exact_match)
    return [(earlier, later, exact) for later, (earlier, exact) in sorted(pairs.items())]


def _list_candidates(bits: Sequence[int]) -> set[tuple[int, int]]:
    pairs: set[tuple[int, int]] = set()
    table = np.array(
        [np.frombuffer(number.to_bytes(BITS // 8, "big"), np.uint8) for number in bits], np.uint8
    ).reshape(-1, BITS // 8)
    signs = np.unpackbits(table, axis=1)
    for band in _draw_bands():
        keys = signs[:, band].astype(np.int64) @ (1 << np.arange(WIDE))
        buckets: defaultdict[int, list[int]] = defaultdict(list)
        for place, key in enumerate(keys.tolist()):
            buckets[key].append(place)
        for bucket in buckets.values():
            for start in range(0, len(bucket) if len(bucket) > 1 else 0, CROWD):
                pairs |= _list_near(signs, bucket[max(start - CROWD, 0) : start + CROWD])
    return pairs


def _list_near(signs: NDArray[Any], bucket: Sequence[int]) -> set[tuple[int, int]]:
    rows = signs[bucket].astype(np.float32)
    ones = rows.sum(1)
    distances = ones[:, None] + ones[None] - 2 * rows @ rows.T
    first, second = np.nonzero(np.triu(distances <= ALIKE, 1))
    return {(bucket[a], bucket[b]) for a, b in zip(first.tolist(), second.tolist(), strict=True)}


@cache
def _draw_bands() -> tuple[NDArray[Any], ...]:
    rng = np.random.RandomState(0)
    return tuple(rng.choice(BITS, WIDE, replace=False) for _ in range(BANDS))


def _compare(earlier: Print, later: Print) -> bool | None:
    """None for different pictures, True for the same to the eye, False for nearly the same."""
    first, second = _unpack_pixels(earlier), _unpack_pixels(later)
    if float(((first - second) ** 2).mean()) ** 0.5 < EXACT:
        return True
    first, second = (cv2.GaussianBlur(image, (0, 0), 0.7) for image in (first, second))
    gain = float(np.clip(first.std() / max(float(second.std()), 1e-3), 0.6, 1.7))
    difference = (first - first.mean((0, 1))) - gain * (second - second.mean((0, 1)))
    mean, most = float((difference**2).mean()) ** 0.5, float(np.abs(difference).max())
    return False if mean < NEAR[0] and most < NEAR[1] else None


def _unpack_pixels(seal: Print) -> NDArray[Any]:
    flat = np.frombuffer(seal.small, np.uint8)
    return flat.reshape(SMALL, SMALL, 3).astype(np.float32)


def look_at_twins(
    clips: Sequence[str],
    prints: Sequence[Print],
    sets: Sequence[int],
    held: frozenset[int] = frozenset(),
) -> Iterator[tuple[int, Finding]]:
    """Twins among all pictures of a run, with the place of the later one of each pair.

    `sets` is the data set of each picture, `held` are the places of those held out.
    """
    for earlier, later, exact in find_twins(prints):
        first, second = clips[earlier], clips[later]
        same = "the same picture as" if exact else "nearly the same picture as"
        where = "" if sets[earlier] == sets[later] else f" of [[data]] number {sets[earlier] + 1}"
        if (earlier in held) != (later in held):
            out = second if later in held else first
            message = (
                f"It is {same} {first}{where}, and {out} is held out for validation while the other"
                " is trained on: the validation loss will be too good."
            )
            fix = "Remove one of the two."
            yield later, Finding("overlap", "warning", second, message, fix)
            continue
        kind = "duplicate" if exact else "near-duplicate"
        fix = "Remove one of the two; `repeats` is the honest way to see a picture more often."
        message = f"It is {same} {first}{where}: it counts twice."
        yield later, Finding(kind, "warning", second, message, fix)
