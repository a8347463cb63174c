"""All that the data page asks of the server is done without torch."""

import shutil
import subprocess
import sys
from pathlib import Path

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
ASK = """
import shutil, sys
from pathlib import Path
from fastapi.testclient import TestClient
from frisket.studio.app import build_app
from frisket.studio.guard import Credentials
from frisket.studio.state import Studio
from frisket.studio.workspace import Workspace
HEAVY = {"torch", "cv2", "av", "transformers"}
root = Path(sys.argv[1])
credentials = Credentials(port=8471)
app = build_app(Studio(Workspace(root)), credentials)
with TestClient(app, base_url="http://127.0.0.1:8471") as client:
    client.get(credentials.address)
    client.headers["X-Frisket"] = "1"
    assert not HEAVY & set(sys.modules), HEAVY & set(sys.modules)
    set_id = client.get("/api/workspace").json()["sets"][0]["id"]
    clip = client.get(f"/api/sets/{set_id}/clips").json()["clips"][0]["id"]
    picture = Path(sys.argv[2]).read_bytes()
    caption = client.get(f"/api/clips/{clip}/caption").json()
    answers = [
        client.get(f"/api/sets/{set_id}/facts"),
        client.get("/api/families"),
        client.get(f"/api/clips/{clip}"),
        client.get(f"/api/clips/{clip}/thumb"),
        client.get(f"/api/clips/{clip}/overlay"),
        client.put(f"/api/clips/{clip}/caption", json={**caption, "text": "x"}),
        client.post(f"/api/sets/{set_id}/reject", json={"ids": [clip], "rejected": True}),
        client.patch(f"/api/sets/{set_id}", json={"repeats": 2}),
        client.post(f"/api/sets/{set_id}/files", params={"name": "b.jpg"}, content=picture),
        client.post(f"/api/sets/{set_id}/trash", json={"ids": [clip]}),
    ]
    assert [answer.status_code for answer in answers] == [200] * len(answers), answers
    assert "torch" not in sys.modules and "av" not in sys.modules
"""


def test_the_server_of_the_data_page_loads_no_torch(folder):
    shutil.copytree(PHOTOS, folder, dirs_exist_ok=True)
    picture = PHOTOS / "clips" / "astronaut.jpg"
    command = [sys.executable, "-c", ASK, str(folder), str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
