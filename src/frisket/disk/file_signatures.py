"""What a file is by its first bytes, where its name does not tell."""

_STARTS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)


def suffix_of(content: bytes) -> str | None:
    """The usual suffix of an image or video that begins so; None where it is neither."""
    for start, suffix in _STARTS:
        if content.startswith(start):
            return suffix
    if content[:4] == b"RIFF":
        return {b"WEBP": ".webp", b"AVI ": ".avi"}.get(content[8:12])
    if content[4:8] == b"ftyp":
        return {b"avif": ".avif", b"avis": ".avif", b"qt  ": ".mov"}.get(content[8:12], ".mp4")
    if content[:4] == b"\x1aE\xdf\xa3":
        return ".webm" if b"webm" in content[:64] else ".mkv"
    return None
