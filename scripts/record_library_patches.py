# ruff: noqa: D101, D102
"""Records what the patches of docs/library.md make of other trainers' own loss functions.

    python scripts/record_library_patches.py kohya=CHECKOUT musubi=CHECKOUT diffusion-pipe=CHECKOUT

A checkout is as for record_peer_losses.py, at the commit that the page names (CHECKOUT@COMMIT takes
another). Each patch is applied to the file of that commit and the patched function run beside the
untouched one, with stand-ins where it reaches for the rest of the trainer; none of their text is
kept. `tests/library/patches.json` gets repository, commit, file, the patch's own hash, and both
values and the patched gradient of each case, on the tensors of tests/losses/scenes.py.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace as Stub
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.peers import trainers  # noqa: E402
from scripts.peers.text import Commit, run, stacked  # noqa: E402
from tests.losses.scenes import Scene, scene_of  # noqa: E402

import frisket  # noqa: E402

PAGE = ROOT / "docs/library.md"
TO = ROOT / "tests/library/patches.json"
STILLS = (("soft",), ("hard", "soft"), ("corner", "empty"), ("full", "soft"), ("empty", "empty"))
CLIPS = (("soft", "hard"), ("corner", "empty"))


class Patched(Commit):
    """A commit with one file as a patch of the page leaves it."""

    def __init__(self, checkout: str, patch: str) -> None:
        super().__init__(checkout)
        self.patch = patch

    def text(self, file: str) -> str:
        text = super().text(file)
        if f"+++ b/{file}\n" not in self.patch:
            return text
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, file)
            path.parent.mkdir(parents=True)
            path.write_text(text, encoding="utf-8")
            command = ["patch", "-p1", "--no-backup-if-mismatch", "--fuzz=0"]
            subprocess.run(command, cwd=folder, input=self.patch, text=True, check=True)
            return path.read_text(encoding="utf-8")

    def function(self, file: str, name: str, **names: Any) -> Any:
        return super().function(file, name, frisket=frisket, **names)


class Kohya(trainers.Kohya):
    file = "library/custom_train_functions.py"
    frames = (1,)
    options = ({"loss": "l2", "source": "folder"}, {"loss": "l1", "source": "alpha"})


class Musubi:
    repo = "kohya-ss/musubi-tuner"
    file = "src/musubi_tuner/training/trainer_base.py"
    frames = (1, 3)
    options: tuple[dict[str, Any], ...] = ({},)

    def __init__(self, commit: Commit) -> None:
        names = {"compute_loss_weighting_for_sd3": lambda *_: self.weighting}
        self.process = commit.function(self.file, "process_batch", argparse=Any, **names)
        self.compute = commit.function(self.file, "compute_loss", argparse=Any, **names)

    def loss(self, scene: Scene, prediction: Tensor) -> Tensor:
        self.weighting = scene.level.view(-1, 1, 1, 1, 1)
        output = Stub(pred=prediction, target=scene.target, extra={})  # its DiTOutput
        trainer = Stub(
            get_noisy_model_input_and_timesteps=lambda *_: (None, scene.t),
            call_dit=lambda *_: output,
            compute_loss=lambda *values: self.compute(Stub(), *values),
        )
        cells = frisket.coverage(stacked(scene)[:, None], scene.spatial)
        batch = {"timesteps": None, "loss_mask": cells[:, :, None]}
        args = Stub(weighting_scheme="none")
        names = {name: None for name in ("transformer", "network", "latents", "noise")}
        return self.process(
            trainer, args, accelerator=Stub(device="cpu"), batch=batch, noise_scheduler=None,
            dit_dtype=torch.float32, network_dtype=torch.float32, vae=None, global_step=0, **names,
        )[0]  # fmt: skip


class DiffusionPipe(trainers.DiffusionPipe):
    file = "models/base.py"
    frames = (1, 3)
    options = ({"kind": "mse"}, {"kind": "huber_delta"}, {"kind": "mse", "packed": True})

    def __init__(self, commit: Commit) -> None:
        super().__init__(commit)
        self.flux = commit.part("models/flux.py", "if mask is not None:", "img_ids =")

    def loss(self, scene: Scene, prediction: Tensor, kind: str, packed: bool = False) -> Tensor:
        """`packed` as Flux: tokens of 2 x 2 cells, the mask packed alike."""
        if not packed:
            return super().loss(scene, prediction, kind)
        _, channels, frames, h, w = prediction.shape
        assert frames == 1
        tokens, target = (pack(latents[:, :, 0]) for latents in (prediction, scene.target))
        names = {"mask": stacked(scene), "h": h, "w": w, "c": channels, "F": functional}
        run(self.flux, names := names | {"rearrange": pack})
        return self.error(Stub(config={}))(tokens, (target, names["mask"]))


def pack(latents: Tensor, *_: str, ph: int = 2, pw: int = 2) -> Tensor:
    """Einops' `b c (h ph) (w pw) -> b (h w) (c ph pw)`."""
    cells = latents.unflatten(3, (-1, pw)).unflatten(2, (-1, ph))
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


PEERS: dict[str, Any] = {"kohya": Kohya, "musubi": Musubi, "diffusion-pipe": DiffusionPipe}


def list_cases(peer: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What `scene_of` is given for each case of a trainer, and the trainer's own options."""
    for frames in peer.frames:
        for kinds in STILLS if frames == 1 else CLIPS:
            for options in peer.options:
                if frames > 1 and options.get("packed"):
                    continue
                scene = {"kinds": list(kinds), "frames": frames, "height": 2, "width": 4}
                yield scene | {"plain": peer is DiffusionPipe}, options


def find_patches() -> dict[str, str]:
    """Each patch of the page by the file that it changes."""
    patches = re.findall(r"```diff\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return {re.search(r"\+\+\+ b/(.*)", patch)[1]: patch for patch in patches}  # type: ignore[index]


def record(peer: Any, checkout: str) -> dict[str, Any]:
    patch = find_patches()[peer.file]
    untouched, patched = Commit(checkout), Patched(checkout, patch)
    theirs, ours = peer(untouched), peer(patched)
    cases = []
    for number, (description, options) in enumerate(list_cases(peer)):
        scene = scene_of(number, **description)
        prediction = scene.prediction.clone().requires_grad_()
        value = ours.loss(scene, prediction, **options)
        value.backward()
        cases.append(
            {
                "scene": {"seed": number, **description},
                "options": options,
                "theirs": float(theirs.loss(scene, scene.prediction, **options)),
                "patched": float(value.detach()),
                "gradient": prediction.grad.flatten().tolist(),
            }
        )
    return {
        "repo": peer.repo,
        "commit": untouched.name,
        "file": peer.file,
        "patch": hashlib.sha256(patch.encode()).hexdigest(),
        "cases": cases,
    }


def main() -> None:
    """Record the trainers that are named, and keep what is there of the others."""
    records = json.loads(TO.read_text(encoding="utf-8")) if TO.exists() else {}
    for word in sys.argv[1:]:
        name, _, checkout = word.partition("=")
        records[name] = record(PEERS[name], checkout)
    TO.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
