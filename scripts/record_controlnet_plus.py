"""Records what ControlNet++'s own code gives, for tests/losses/structure.

    python scripts/record_controlnet_plus.py CHECKOUT KORNIA

CHECKOUT is a folder of liming-ai/ControlNet_Plus_Plus (Apache-2.0; read at 9ffe264), KORNIA one
that kornia was installed into (`pip install --no-deps --target KORNIA kornia==0.9.0 kornia_rs`).
Its Canny, its get_reward_loss and the lines of train/reward_control.py between prediction and
reward are run on our inputs; the json gets the numbers, none of the code is kept.
"""

import ast
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
import transformers
from diffusers import DDPMScheduler
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.losses.structure import reward_scene as scene  # noqa: E402

TO = ROOT / "tests/losses/structure/controlnet_plus.json"
COMMIT = "9ffe264"
STUBS = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
STUBS += ("mmengine", "mmengine.hub", "mmseg", "mmseg.models", "mmseg.models.losses")
STUBS += ("mmseg.models.losses.silog_loss",)


def import_theirs(checkout: Path, kornia: Path) -> tuple[Any, Any]:
    """Their Canny's module and their utils; what they import beside torch and kornia is a stub."""
    sys.path[:0] = [str(checkout / "train"), str(kornia)]
    import kornia.core  # noqa: PLC0415

    for name, value in {"Module": nn.Module, "Tensor": Tensor}.items():
        if not hasattr(kornia.core, name):  # gone since 0.8
            setattr(kornia.core, name, value)
    import canny_tools  # noqa: PLC0415

    for name in STUBS:
        sys.modules[name] = MagicMock()
    import utils  # noqa: PLC0415

    return canny_tools, utils


def record_canny(theirs: Any) -> list[dict[str, Any]]:
    """The magnitudes, and their squares' sum along one direction."""
    cases = []
    for case in range(len(scene.SIZES)):
        picture = scene.draw_picture(case).requires_grad_()
        magnitude, _ = theirs.Canny()(picture, *scene.THRESHOLDS)
        (gradient,) = torch.autograd.grad(magnitude.square().sum(), picture)
        slope = float((gradient * scene.draw_direction(picture.shape)).sum())
        cases.append({"magnitude": magnitude.flatten().tolist(), "slope": slope})
    return cases


def cut_reward(checkout: Path) -> str:
    """The statements of their loop from the estimate to the reward, without an indent."""
    source = (checkout / "train/reward_control.py").read_text()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.With):
            continue
        texts = [ast.unparse(statement) for statement in node.body]
        starts = [place for place, text in enumerate(texts) if "pred_original_sample" in text]
        ends = [place for place, text in enumerate(texts) if "timestep_mask.sum()" in text]
        if starts and ends:
            return "\n".join(texts[starts[0] : ends[0] + 1])
    raise SystemExit("their loop has changed: no statements from the estimate to the reward")


def record_reward(
    statements: str, theirs: Any, utils: Any, timesteps: tuple[int, ...], prediction_type: str
) -> dict[str, Any]:
    """Their reward of one batch and its gradient in the prediction, along one direction."""
    clean, noise, prediction = scene.draw_latents()
    scheduler = DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type=prediction_type,
    )
    levels = torch.tensor(timesteps)
    prediction.requires_grad_()
    decoded = lambda latents: SimpleNamespace(sample=scene.decode_colours(latents))  # noqa: E731
    canny = theirs.Canny()
    labels = canny(scene.decode_colours(clean).div(2).add(0.5).clamp(0, 1), *scene.THRESHOLDS)[0]
    names: dict[str, Any] = {
        "noise_scheduler": scheduler,
        "model_pred": prediction,
        "timesteps": levels,
        "noisy_latents": scheduler.add_noise(clean, noise, levels),
        "weight_dtype": torch.float32,
        "vae": SimpleNamespace(config=SimpleNamespace(scaling_factor=1.0), decode=decoded),
        "args": SimpleNamespace(
            task_name="canny",
            dataset_name="",
            train_batch_size=len(clean),
            min_timestep_rewarding=0,
            max_timestep_rewarding=scene.GATE,
        ),
        "accelerator": SimpleNamespace(device="cpu"),
        "reward_model": canny,
        "labels": labels,
        "low_threshold": scene.THRESHOLDS[0],
        "high_threshold": scene.THRESHOLDS[1],
        "batch": {"labels": labels},
        "torch": torch,
        "transformers": transformers,
        "get_reward_loss": utils.get_reward_loss,
        "label_transform": utils.label_transform,
    }
    exec(statements, names)
    reward = names["reward_loss"]
    (gradient,) = torch.autograd.grad(reward, prediction)
    slopes = (gradient * scene.draw_direction(prediction.shape)).flatten(1).sum(1)
    return {
        "timesteps": list(timesteps),
        "prediction_type": prediction_type,
        "value": float(reward),
        "slopes": slopes.tolist(),
    }


def main(checkout: Path, kornia: Path) -> None:
    theirs, utils = import_theirs(checkout, kornia)
    statements = cut_reward(checkout)
    rewards = [
        record_reward(statements, theirs, utils, timesteps, kind)
        for timesteps in (scene.TIMESTEPS, scene.NONE_PASS)
        for kind in ("epsilon", "v_prediction")
    ]
    numbers = {"commit": COMMIT, "canny": record_canny(theirs), "reward": rewards}
    TO.write_text(json.dumps(numbers) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
