"""Files of a folder that the page may show: known by tokens the server gives, never by a path."""

import base64
import hashlib
import html
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from fastapi.responses import FileResponse, HTMLResponse, Response

from frisket.studio.workspace import UnknownId

KINDS: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".html": "text/html; charset=utf-8",
}
VIDEO = ".mp4"
DEEPEST = 4  # folders below the one whose files are shown
PASSED = frozenset({"checkpoints", "cache"})
INLINED = 64 << 20  # bytes of pictures that a page gets written into it
# A report is a document of its own: its scripts run, but in an origin that is nobody's, without
# the studio's cookie, and with nothing to load from anywhere.
POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline';"
    " style-src 'unsafe-inline'; img-src data:; media-src data:; frame-ancestors 'self'"
)
FOREVER = "private, max-age=31536000, immutable"  # addresses hold the time of the file
_LINK = re.compile(r'\bsrc="([^"#?]{1,2000})"')
_REFRESH = re.compile(r'<meta\s+http-equiv="refresh"[^>]*>', re.IGNORECASE)
_tokens: dict[Path, dict[str, str]] = {}  # by folder: token to place


def list_artefacts(folder: Path) -> dict[str, str]:
    """Tokens of the files in a folder that may be shown, and their places in it; no links."""
    tokens = {name_token(place): place for place in _walk(folder, "", 0)}
    _tokens[folder] = tokens
    return tokens


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        place = f"{prefix}{entry.name}"
        if entry.name.startswith("."):
            continue
        if entry.is_file(follow_symlinks=False):
            if Path(entry.name).suffix.lower() in KINDS:
                yield place
        elif depth < DEEPEST and entry.name not in PASSED and entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{place}/", depth + 1)


def name_token(place: str) -> str:
    """The token of a file by its place in the folder."""
    raw = place.encode(errors="surrogateescape")
    return hashlib.blake2b(raw, digest_size=9, person=b"frisket.file").hexdigest()


def find_artefact(folder: Path, token: str) -> Path:
    """The file of a token; UnknownId for a token that was never given, or a file that has gone.

    What a token stands for is looked at again when it is sent: a link that has taken the place of
    a file, or of a folder on the way, leads nowhere.
    """
    place = _tokens.get(folder, {}).get(token) or list_artefacts(folder).get(token)
    if place is None:
        raise UnknownId(f"no file here has the token {token[:40]!r}")
    path = folder / place
    try:
        real = path.resolve(strict=True)
    except OSError as error:
        raise UnknownId("this file is no longer there") from error
    if real != folder.resolve() / place or not real.is_file():
        raise UnknownId("this file is no longer there")
    return real


def make_address(base: str, folder: Path, place: str) -> str | None:
    """Where the page gets a file from: `base`/file/TOKEN?v=TIME; None where it is not there."""
    try:
        time = (folder / place).stat().st_mtime_ns
    except OSError:
        return None
    return f"{base}/file/{name_token(place)}?v={time:x}"


def send_artefact(folder: Path, token: str) -> Response:
    """The answer for a token: a picture or clip as it is, a report as a page that may do nothing.

    Raises UnknownId as `find_artefact`.
    """
    path = find_artefact(folder, token)
    kind = KINDS[path.suffix.lower()]
    if path.suffix.lower() != ".html":
        return FileResponse(path, media_type=kind, headers={"cache-control": FOREVER})
    text = path.read_text(encoding="utf-8", errors="replace")
    text = _REFRESH.sub("", text)  # the studio asks for it again; a frame of no origin may not
    page = embed_pictures(text, path.parent, folder)
    return HTMLResponse(page, headers={"content-security-policy": POLICY})


def embed_pictures(page: str, page_folder: Path, folder: Path) -> str:
    """The page with the pictures it names below `folder` written into it.

    A page without an origin can load nothing. Past INLINED bytes pictures keep their address, and
    the page says so.
    """
    left, skipped = INLINED, 0

    def replace(match: re.Match[str]) -> str:
        nonlocal left, skipped
        path = (page_folder / unquote(html.unescape(match[1]))).resolve()
        kind = KINDS.get(path.suffix.lower())
        if kind is None or path.suffix == ".html" or not path.is_relative_to(folder.resolve()):
            return match[0]
        try:
            size = path.stat().st_size
            if size > left:
                skipped += 1
                return match[0]
            left -= size
            data = base64.b64encode(path.read_bytes()).decode()
        except (OSError, ValueError):
            return match[0]
        return f'src="data:{kind};base64,{data}"'

    page = _LINK.sub(replace, page)
    if skipped:
        note = f"<p>{skipped} pictures are not shown here: open the page from its folder.</p>"
        page = page.replace("</body>", f"{note}</body>")
    return page
