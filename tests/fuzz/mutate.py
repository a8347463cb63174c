"""Seeded damage: bytes, texts and trees of JSON values, the same for the same seed everywhere.

A case is judged by `outcome`: it worked, or it raised an error that was written for the reader.
Anything else, a case that takes longer than its limit too, fails the test and names the seed.
"""

import faulthandler
import json
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from frisket.cli.app import _is_meant

SECONDS = 20.0  # a case; a quiet machine needs milliseconds
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (b"\0", b"\xff", b"\xff\xfe", b"\n", b'"', b"..", b"/", b"%s", b"\xed\xa0\x80", b"1" * 5000)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**63, 10**400, 0.5, 1e308, float("inf"), float("nan")),
    *("", "\0", "\ud800", "..", "/etc/passwd", "~nobody/x", "a\nb", "<b>", "x" * 5000, [], {}),
)


class Missed(AssertionError):
    """A case that ended in another way than it may; names its seed."""


class TooLong(BaseException):
    """A case that took longer than its limit; no `except Exception` holds it up."""


def damage(content: bytes, rng: random.Random, most: int = 6) -> bytes:
    """One to `most` mutations of bytes: flips, numbers, cuts, repeats, insertions, swaps."""
    data = bytearray(content)
    for _ in range(rng.randint(1, most)):
        _damage_once(data, rng)
    return bytes(data)


def _damage_once(data: bytearray, rng: random.Random) -> None:
    size = len(data)
    at = rng.randrange(size) if size else 0
    # Headers matter more than pixels: every third mutation hits the first 64 bytes.
    at = at if rng.random() > 0.34 else at % 64 % max(size, 1)
    length = min(rng.choice((1, 2, 4, 8, 64, 1024)), max(size - at, 0))
    match rng.randrange(8):
        case 0 if size:
            data[at] ^= 1 << rng.randrange(8)
        case 1 if size:
            data[at] = rng.randrange(256)
        case 2:
            width, order = rng.choice((1, 2, 4)), rng.choice(("little", "big"))
            number = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
            data[at : at + width] = number.to_bytes(width, order)
        case 3:
            del data[at:]
        case 4:
            del data[at : at + length]
        case 5:
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 16))
        case 6:
            data[at:at] = rng.choice(WORDS)
        case _:
            other = rng.randrange(size) if size else 0
            piece = bytes(data[other : other + length])
            data[at : at + len(piece)] = piece


def damage_value(value: Any, rng: random.Random, most: int = 3) -> Any:
    """A tree of JSON values, one to `most` places of it changed, dropped, doubled or nested."""
    for _ in range(rng.randint(1, most)):
        value = _damage_place(value, rng)
    return value


def _damage_place(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.75:
        key = rng.choice(list(value))
        rest = {name: each for name, each in value.items() if name != key}
        match rng.randrange(5):
            case 0:
                return rest
            case 1:
                return {**rest, rng.choice(("", "\ud800", "\0", f"{key}x", "x" * 300)): value[key]}
            case _:
                return {**value, key: _damage_place(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.75:
        place = rng.randrange(len(value))
        changed = [] if rng.random() < 0.2 else [_damage_place(value[place], rng)]
        return [*value[:place], *changed * rng.choice((1, 1, 2)), *value[place + 1 :]]
    if rng.random() < 0.1:
        return nested(value, rng.choice((3, 200, 5000)))
    return rng.choice(VALUES)


def nested(value: Any, depth: int) -> Any:
    """A value within `depth` lists."""
    for _ in range(depth):
        value = [value]
    return value


def written(value: Any, rng: random.Random) -> bytes:
    """A value as JSON, as it is or escaped; what is too deep or long to be written, by hand."""
    try:
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    except (RecursionError, ValueError):
        text = rng.choice(("[" * 9000, '{"path": ' + "1" * 9000 + "}"))
    return text.encode("utf-8", "surrogatepass")


def cuts(content: bytes, count: int) -> Iterator[bytes]:
    """Beginnings of a file, at most `count`, evenly spread."""
    step = max(len(content) // count, 1)
    for end in range(0, len(content), step):
        yield content[:end]


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    # A decoder that hangs inside of C takes no signal: then the process ends and says where.
    faulthandler.dump_traceback_later(seconds * 3, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(
    case: object, run: Callable[[], object], *, seconds: float = SECONDS, allowed: type = Exception
) -> str:
    """Run a case: "worked" or "refused"; raises Missed for what no user may see.

    Refused is what the command line shows as one line (`frisket.cli`): an error of the house's, or
    an OSError of the system's. `allowed` narrows it to one class, for instance BadMedia.
    """
    try:
        # A decoder's warnings are no fault; the suite would raise them.
        with warnings.catch_warnings(), _limited(seconds):
            warnings.simplefilter("ignore")
            run()
    except TooLong as error:
        raise Missed(f"case {case}: still running after {seconds:g} s") from error
    except Exception as error:
        if not _is_meant(error) or not isinstance(error, allowed):
            raise Missed(f"case {case}: {type(error).__name__}: {str(error)[:300]}") from error
        if not str(error).strip():
            raise Missed(f"case {case}: {type(error).__name__} without a word") from error
        return "refused"
    return "worked"


def tried(
    seeds: Sequence[int], run: Callable[[random.Random], object], **how: Any
) -> dict[str, int]:
    """Every seed as a case of its own generator; how many worked and how many were refused.

    All are run before the first that missed is raised, with the seeds of the others.
    """
    counts = {"worked": 0, "refused": 0}
    missed: list[Missed] = []
    for seed in seeds:
        try:
            counts[outcome(seed, lambda seed=seed: run(random.Random(seed)), **how)] += 1
        except Missed as error:
            missed.append(error)
    if missed:
        told = "\n  ".join(str(error) for error in missed[:20])
        raise Missed(f"{len(missed)} of {len(seeds)} cases:\n  {told}") from missed[0]
    return counts
