"""A server that is killed while it writes leaves the old mask or the new one, and no half of it."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from frisket.studio.documents.base import MaskDocument
from frisket.studio.documents.opening import open_document
from frisket.studio.state import Studio
from frisket.studio.workspace import Workspace

SIZE = 64
CONFIG = """
[[data]]
clips = "clips"
masks = { face = "m/face", hair = "m/hair" }
[regions]
face = 1.0
hair = 0.5
"""
# Writes a number into both planes, one after the other, as fast as it can, and says which are safe.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from frisket.studio.documents.base import MaskPatch, Tile
from tests.studio.test_mask_crash import open_one
document = open_one(Path(sys.argv[1]))
revision, start = document.read(0).description.revision, int(sys.argv[2])
for number in range(start, 255):
    plane = np.full((64, 64), number, np.uint8)
    patch = MaskPatch(64, 64, (Tile(1, 0, 0, plane), Tile(2, 0, 0, plane)), ({"op": "undo"},))
    revision = document.write(0, patch, revision)
    print(number, flush=True)
"""


def open_one(folder: Path) -> MaskDocument:
    studio = Studio(Workspace(folder))
    (clip_set,) = studio.workspace.list_sets()
    (clip,) = studio.workspace.list_clips(clip_set)
    return open_document(studio, clip.id)


def test_kill_at_any_moment(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "clips/a.png")
    (tmp_path / "frisket.toml").write_text(CONFIG)
    source, safe = random.Random(14), 0
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(safe + 1)]
        root = Path(__file__).parents[2]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as writer:
            assert writer.stdout is not None
            for _ in range(source.randint(1, 8)):
                safe = int(writer.stdout.readline())
            time.sleep(source.uniform(0, 0.02))
            writer.send_signal(signal.SIGKILL)
            safe = max([safe, *map(int, writer.stdout.read().split())])
        content = open_one(tmp_path).read(0).content
        values = {int(value) for plane in content.soft.values() for value in np.unique(plane)}
        assert len(values) == 1, "both planes are of one save"
        assert values <= {safe, safe + 1}
        safe = values.pop()
        for region in ("face", "hair"):
            assert (np.asarray(Image.open(tmp_path / f"m/{region}/a.png")) == safe).all()
    (log,) = (tmp_path / ".frisket-studio/edits").iterdir()
    lines = [line for line in log.read_text().splitlines() if line.endswith("}")]
    assert len(lines) == safe, "every save is in the log, once"
