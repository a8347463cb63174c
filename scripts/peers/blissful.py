# ruff: noqa: D102, RUF012
"""The masked loss of DustyL's fork of blissful-tuner, from the cached mask to the loss."""

from types import SimpleNamespace as Stub
from typing import Any

import torch
from scripts.peers.text import IMAGES, VIDEOS, Commit, run, spread
from tests.losses.scenes import Scene
from torch import Tensor
from torch.nn import functional

PLAIN = {"gamma": 1.0, "floor": 0.0, "beta": 0.0, "sample": False, "prior": 0.0, "threshold": None}
PLAIN |= {"t_min": None, "kind": "mse", "pixel_gamma": 1.0, "pixel_floor": 0.0, "step": None}
STEPS, WARMUP = 100, 0.1  # of a run whose prior warms up


class Blissful:
    """DustyL's masked loss: its fork is not public as a whole, brandon-ykw's port is."""

    repo = "brandon-ykw/musubi-tuner"
    scenes = {"images": IMAGES, "videos": VIDEOS, "plain": False}
    folder = "src/musubi_tuner"
    variations = (
        {}, {"gamma": 0.5, "floor": 0.1}, {"gamma": 2.0, "sample": True}, {"beta": 0.5},
        {"beta": 1.5, "sample": True, "floor": 0.1}, {"kind": "huber", "sample": True},
        {"prior": 0.8}, {"prior": 0.8, "sample": True, "gamma": 0.5, "floor": 0.1},
        {"prior": 0.8, "threshold": 0.35, "floor": 0.1}, {"prior": 0.8, "t_min": 500.0},
        {"prior": 0.8, "threshold": 0.35, "t_min": 500.0, "sample": True},
        {"prior": 0.8, "threshold": 0.35, "sample": True, "step": 0},
        {"prior": 0.8, "threshold": 0.35, "sample": True, "step": 5},
        {"pixel_gamma": 0.5}, {"pixel_floor": 0.1, "beta": 0.5},
        {"pixel_gamma": 2.0, "pixel_floor": 0.1, "gamma": 0.5, "floor": 0.05, "sample": True},
        {"pixel_floor": 0.2, "prior": 0.8, "threshold": 0.35},
    )  # fmt: skip

    def __init__(self, commit: Commit) -> None:
        masks = commit.module(f"{self.folder}/modules/mask_loss.py", __name__="mask_loss")
        schedule = commit.module(f"{self.folder}/modules/prior_scheduling.py")
        errors = commit.module(f"{self.folder}/modules/loss_utils.py")
        train, begin = f"{self.folder}/hv_train_network.py", "# Timestep-adaptive prior weight"
        self.scheduled = commit.part(train, begin, "# Initialize EMA teacher")
        self.gated = commit.part(train, "# Determine per-sample whether", "if need_prior:")
        self.rest = commit.part(train, "loss = compute_unreduced_target", "accelerator.backward")
        cache = f"{self.folder}/qwen_image_cache_latents.py"
        self.cached = commit.part(
            cache, "mask = torch.from_numpy(mask_np)", "mask_weights_i = mask"
        )
        transform = commit.function(
            f"{self.folder}/cache_latents.py", "apply_cache_mask_transforms"
        )
        self.cache = Stub(apply_cache_mask_transforms=transform)
        self.error = errors.compute_unreduced_target_loss
        self.names = {
            "torch": torch,
            "apply_masked_loss_with_prior": masks.apply_masked_loss_with_prior,
            "compute_prior_weight_per_sample": schedule.compute_prior_weight_per_sample,
        }

    def sections(self, **theirs: Any) -> dict[str, Any]:
        given = PLAIN | theirs
        losses: dict[str, Any] = {"normalise": "sample" if given["sample"] else "batch"}
        losses["denoise"] = {"kind": given["kind"]}
        losses |= {"beta": given["beta"]} if given["beta"] else {}
        if given["prior"]:
            prior = {"strength": given["prior"], "threshold": given["threshold"]}
            prior["t_min"] = given["t_min"] and given["t_min"] / 1000
            prior["warmup"] = WARMUP if given["step"] is not None else None
            losses["prior"] = {name: value for name, value in prior.items() if value is not None}
        masks = {name: given[name] for name in ("pixel_gamma", "pixel_floor")}
        curve = {"gamma": given["gamma"], "floor": given["floor"]}
        return {"losses": losses, "masks": masks, "curve": curve, "run": {"steps": STEPS}}

    def loss(
        self, scene: Scene, prediction: Tensor, dtype: Any = torch.float32, **theirs: Any
    ) -> Tensor:
        given = PLAIN | theirs
        item = Stub(
            cache_mask_gamma=given["pixel_gamma"], cache_mask_min_weight=given["pixel_floor"]
        )
        laid = []
        for mask in scene.masks:
            names = {"torch": torch, "Fnn": functional, "item": item, "cache_latents": self.cache}
            names |= {"target_latent": scene.prediction[0]}
            if mask is None:  # aligned with ones when a batch is put together
                laid.append(torch.ones(1, *scene.prediction.shape[2:]))
                continue
            names["mask_np"] = (mask * 255).round().byte().numpy()
            run(self.cached, names)
            laid.append(names["mask"].to(dtype))
        weights = torch.stack(laid).float()
        warms = given["step"] is not None
        args = Stub(
            use_mask_loss=True, mask_gamma=given["gamma"], mask_min_weight=given["floor"],
            mask_area_scale_beta=given["beta"], normalize_per_sample=given["sample"],
            prior_preservation_weight=given["prior"], prior_mask_threshold=given["threshold"],
            prior_preservation_timestep_threshold=given["t_min"],
        )  # fmt: skip
        names = self.names | {
            "args": args, "timesteps": scene.t * 1000, "mask_weights": weights,
            "need_prior_base": given["prior"] > 0, "prior_schedule_enabled": warms,
            "prior_preservation_weight": given["prior"], "prior_decay_schedule": "constant",
            "prior_decay_timestep_start": 300.0, "global_step": given["step"] or 0,
            "prior_decay_warmup_steps": int(STEPS * WARMUP) if warms else 0,
            "model_pred": prediction, "target": scene.target, "network_dtype": torch.float32,
            "weighting": spread(scene.level * scene.weight, prediction), "prior_pred": None,
            "compute_unreduced_target_loss": lambda ours, other: self.error(
                ours, other, loss_type=given["kind"]
            ),
        }  # fmt: skip
        run(self.scheduled, names)
        run(self.gated, names)
        if names["need_prior"]:
            names["prior_pred"] = scene.prior
        run(self.rest, names)
        return names["loss"]
