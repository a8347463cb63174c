"""Tells jobs of this user from jobs that came with a folder.

A folder somebody else packed may hold `.frisket-studio/jobs` too, and what waits there would run
when the folder is opened. So every job is sealed with a key that never lies in the folder.
"""

import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Any

from frisket.disk.atomic import draft_name, writing

SIZE = 32  # bytes


def read_key() -> bytes:
    """This user's key; made at the first call, readable by this user alone. CannotWrite."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    path = Path(base).expanduser() / "frisket" / "studio.key"
    fix = "set XDG_STATE_HOME to a folder that can be: the studio keeps the key of its jobs there"
    with writing(path, fix, "nothing was begun"):
        if not path.is_file():
            _make_key(path)
        return path.read_bytes()


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(draft_name())
    draft.touch(mode=0o600)
    try:
        draft.write_bytes(secrets.token_bytes(SIZE))
        path.hardlink_to(draft)  # whole at once, and never over a key that another studio made
    except FileExistsError:
        return
    finally:
        draft.unlink()


def make_seal(key: bytes, contents: Any) -> str:
    """The seal of JSON contents under a key."""
    text = json.dumps(contents, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode("ascii"), hashlib.sha256).hexdigest()


def is_sealed(key: bytes, contents: Any, seal: object) -> bool:
    """Whether a seal is of these contents and this key."""
    return isinstance(seal, str) and hmac.compare_digest(
        make_seal(key, contents).encode(), seal.encode("utf-8", "replace")
    )
