"""A JSON value and bytes in one body: four bytes of length, the value, the bytes."""

import json
from typing import Any

from fastapi import Request, Response

KIND = "application/x-frisket-frame"
HEAD = 4  # bytes of the length, little-endian
LONGEST_HEAD = 1 << 20  # bytes of a value that a page sends


class BadFrame(ValueError):
    """A body that is not a frame, or a larger one than its route takes."""


def pack_frame(value: dict[str, Any], body: bytes = b"") -> Response:
    """An answer that holds both."""
    head = json.dumps(value, separators=(",", ":")).encode()
    return Response(len(head).to_bytes(HEAD, "little") + head + body, media_type=KIND)


async def read_frame(request: Request, largest: int) -> tuple[bytes, bytes]:
    """The value, still JSON text, and the bytes of a request of at most `largest` bytes."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > largest:
            raise BadFrame(f"a request of more than {largest} bytes")
        chunks.append(chunk)
    data = b"".join(chunks)
    length = int.from_bytes(data[:HEAD], "little")
    if len(data) < HEAD or length > min(len(data) - HEAD, LONGEST_HEAD):
        raise BadFrame("the request is not a frame of a value and bytes")
    return data[HEAD : HEAD + length], data[HEAD + length :]
