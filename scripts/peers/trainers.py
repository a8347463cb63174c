# ruff: noqa: D101, D102, RUF012
"""The masked losses of five trainers, each called as it calls itself."""

import random
from types import SimpleNamespace as Stub
from typing import Any

import torch
from scripts.peers.text import IMAGES, VIDEOS, Commit, run, stacked, unframed
from tests.losses.scenes import Scene
from torch import Tensor
from torch.nn import functional


class Kohya:
    repo = "kohya-ss/sd-scripts"
    options = {"loss": ("l2", "l1"), "source": ("folder", "alpha")}
    scenes = {"images": IMAGES, "plain": False}  # it has no video model

    def __init__(self, commit: Commit) -> None:
        names = {"Optional": Any}
        self.error = commit.function("library/train_util.py", "conditional_loss", **names)
        self.masked = commit.function("library/custom_train_functions.py", "apply_masked_loss")
        self.rest = commit.part(
            "train_network.py",
            "loss = train_util.conditional_loss(",
            "return loss.mean()",
            last=True,
        ).replace("return loss.mean()", "result = loss.mean()")

    def sections(self, loss: str, source: str) -> dict[str, Any]:
        return {"losses": {"denoise": {"kind": {"l2": "mse"}.get(loss, loss)}}}

    def loss(self, scene: Scene, prediction: Tensor, loss: str, source: str) -> Tensor:
        mask = stacked(scene)
        folder = {"conditioning_images": (mask * 2 - 1)[:, None].expand(-1, 3, -1, -1)}
        names: dict[str, Any] = {
            "noise_pred": unframed(prediction),
            "target": unframed(scene.target),
            "batch": (folder if source == "folder" else {"alpha_masks": mask})
            | {"loss_weights": scene.weight},
            "weighting": scene.level.view(-1, 1, 1, 1),
            "args": Stub(loss_type=loss, masked_loss=True),
            "train_util": Stub(conditional_loss=self.error),
            "apply_masked_loss": self.masked,
            "huber_c": None, "timesteps": None, "noise_scheduler": None,
            "self": Stub(post_process_loss=lambda loss, *_: loss),
        }  # fmt: skip
        run(self.rest, names)
        return names["result"]


class OneTrainer:
    repo = "Nerogar/OneTrainer"
    options = {
        "kind": ("mse", "mae", "huber"),
        "normalised": (False, True),
        "floor": (0.0, 0.1, 1.0),
        "prior": (0.0, 0.7),
    }
    scenes = {"images": IMAGES, "videos": VIDEOS, "plain": False}

    def __init__(self, commit: Commit) -> None:
        masks = commit.module("modules/util/loss/masked_loss.py")
        file = "modules/modelSetup/mixin/ModelSetupDiffusionLossMixin.py"
        both = {"masked_losses_with_prior": masks.masked_losses_with_prior}
        self.masked = commit.function(file, "__masked_losses", Tensor=Tensor, **both)
        weighting = Stub(CONSTANT="constant", SIGMA="sigma")
        self.flow = commit.function(
            file, "_flow_matching_losses", Tensor=Tensor, LossWeight=weighting
        )

    def sections(self, kind: str, normalised: bool, floor: float, prior: float) -> Any:
        rare = kind != "mse" or floor == 1
        if rare and (not normalised or (floor != 0.1) == (kind != "mse")):
            return None
        error = {
            "mse": {"kind": "mse"},
            "mae": {"kind": "l1"},
            "huber": {"kind": "huber", "delta": 0.5},
        }
        losses = {"denoise": error[kind], "prior": prior}
        losses["normalise"] = "sample" if normalised else "none"
        return {"losses": losses, "curve": {"floor": floor}}

    def departs(self, scene: Scene, normalised: bool, **_: Any) -> str:
        framed = scene.prediction.shape[2] > 1
        return "by that column's own mean" if normalised and framed else ""

    def loss(
        self, scene: Scene, prediction: Tensor, dtype: Any = torch.float32, **theirs: Any
    ) -> Tensor:
        # mgds ScaleImage: torchvision's Resize of a tensor, bilinear and antialiased, is this call.
        mask = functional.interpolate(
            stacked(scene)[:, None].to(dtype).float(),
            scene.prediction.shape[3:],
            mode="bilinear",
            antialias=True,
        ).to(dtype)
        predicted = unframed(prediction)
        data = {"predicted": predicted, "target": unframed(scene.target), "loss_type": "target"}
        data["timestep"] = torch.arange(len(mask))
        if theirs["prior"]:
            data["prior_target"] = unframed(scene.prior)
        strengths = {
            f"{name}_strength": float(name == theirs["kind"]) for name in ("mse", "mae", "huber")
        }
        config = Stub(
            **strengths, log_cosh_strength=0, vb_loss_strength=0, huber_delta=0.5,
            unmasked_weight=theirs["floor"], normalize_masked_area_loss=theirs["normalised"],
            masked_prior_preservation_weight=theirs["prior"], masked_training=True,
            model_type=Stub(has_conditioning_image_input=lambda: False), loss_weight_fn="sigma",
            loss_scaler=Stub(get_scale=lambda *_: 1.0), batch_size=len(mask),
            gradient_accumulation_steps=1,
        )  # fmt: skip
        me = Stub(
            __masked_losses=lambda *given: self.masked(None, *given), __sigmas=None,
            __sigma_loss_weight=lambda timestep, _: scene.level[timestep],
        )  # fmt: skip
        batch = {"latent_mask": mask[:, :, None] if predicted.ndim == 5 else mask}
        return self.flow(me, batch | {"loss_weight": scene.weight}, data, config, "cpu").mean()


class SimpleTuner:
    repo = "bghira/SimpleTuner"
    options = {"kind": ("mask", "segmentation")}
    scenes = {
        "images": [kinds for kinds in IMAGES if "none" not in kinds],
        "videos": VIDEOS,
        "plain": True,
    }

    def __init__(self, commit: Commit) -> None:
        kinds = Stub(FLOW_MATCHING="flow", EPSILON="epsilon", V_PREDICTION="v")
        file = "simpletuner/helpers/models/common.py"
        self.whole = commit.function(file, "loss", PredictionTypes=kinds, random=random)

    def sections(self, kind: str) -> dict[str, Any]:
        return {"curve": {"threshold": 0.0}} if kind == "segmentation" else {}

    def loss(self, scene: Scene, prediction: Tensor, kind: str) -> Tensor:
        me = Stub(
            config=Stub(loss_type="l2", masked_loss_probability=1.0),
            get_prediction_target=lambda _: unframed(scene.target),
            PREDICTION_TYPE="flow", diff2flow_bridge=None,
        )  # fmt: skip
        pixels = (stacked(scene) * 2 - 1)[:, None].expand(-1, 3, -1, -1)
        batch = {"loss_mask_type": kind, "conditioning_pixel_values": pixels}
        return self.whole(me, batch, {"model_prediction": unframed(prediction)})


class Options(Stub):
    """Options of which all that are not named ask for nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class AiToolkit:
    repo = "ostris/ai-toolkit"
    options = {"floor": (0.0, 0.1), "prior": (0.0, 0.5), "loss_type": ("mse", "mae")}
    scenes = {"images": IMAGES, "videos": VIDEOS, "plain": False}
    file = "extensions_built_in/sd_trainer/SDTrainer.py"

    def __init__(self, commit: Commit) -> None:
        self.weigh = commit.part(
            self.file, "mask_multiplier = torch.ones((", "def get_adapter_multiplier"
        )
        names = {"get_torch_dtype": lambda name: name, "Union": None, "print_acc": print}
        self.whole = commit.function(self.file, "calculate_loss", **names)

    def sections(self, floor: float, prior: float, loss_type: str) -> dict[str, Any]:
        kind = {"mae": "l1"}.get(loss_type, loss_type)
        return {"losses": {"prior": prior, "denoise": {"kind": kind}}, "curve": {"floor": floor}}

    def departs(self, scene: Scene, prior: float, **_: Any) -> str:
        missing = [mask is None for mask in scene.masks]
        if any(missing) and not all(missing):
            return "a clip without one weighs 0 there"
        return "the first clip's mask" if prior and len(missing) > 1 else ""

    def loss(
        self,
        scene: Scene,
        prediction: Tensor,
        dtype: Any = torch.float32,
        exact: bool = False,
        **theirs: Any,
    ) -> Tensor:
        floor = theirs["floor"]
        lifted = floor + (1 - floor) * stacked(scene)
        missing = torch.tensor([mask is None for mask in scene.masks]).view(-1, 1, 1)
        batch = Options(
            mask_tensor=torch.where(missing, 0.0, lifted)[:, None],  # as DataLoaderBatchDTO does
            loss_multiplier_list=scene.weight.tolist(),
            latents=torch.zeros_like(unframed(scene.target)),
            get_is_reg_list=lambda: [False],
        )  # fmt: skip
        noise_pred = unframed(prediction)
        model = Stub(
            do_masked_loss=True, is_flow_matching=True, prediction_type="epsilon", x0_pred=False,
            scale_loss=lambda loss: loss,
            noise_scheduler=Stub(get_weights_for_timesteps=lambda *_, **__: scene.level),
        )  # fmt: skip
        me = Stub(
            sd=model, device_torch="cpu", timer=lambda _: torch.enable_grad(),
            dfe=None, adapter=None,
            train_config=Options(
                dtype=dtype, pred_scaler=1.0, target_noise_multiplier=1.0, linear_timesteps=True,
                loss_type=theirs["loss_type"], inverted_mask_prior=bool(theirs["prior"]),
                inverted_mask_prior_multiplier=theirs["prior"],
            ),
        )  # fmt: skip
        names = {
            "torch": torch,
            "self": me,
            "batch": batch,
            "dtype": dtype,
            "noisy_latents": noise_pred,
        }
        run(self.weigh if exact else self.weigh.replace("torch.float16", "dtype"), names)
        return self.whole(
            me, noise_pred, unframed(scene.target), noise_pred, scene.t * 1000, batch,
            mask_multiplier=names["mask_multiplier"],
            prior_pred=unframed(scene.prior) if theirs["prior"] else None,
        )  # fmt: skip


class DiffusionPipe:
    repo = "tdrussell/diffusion-pipe"
    options = {"kind": ("mse", "huber_delta", "smooth_l1_beta")}
    scenes = {"images": IMAGES, "videos": VIDEOS, "plain": True}

    def __init__(self, commit: Commit) -> None:
        self.error = commit.function("models/base.py", "get_loss_fn")
        block = "if mask is not None:", "t = self.t_dist"
        self.video = commit.part("models/wan/wan.py", *block)
        self.image = commit.part(
            "models/z_image.py", "if mask is not None:", "timestep_sample_method"
        )

    def sections(self, kind: str) -> dict[str, Any]:
        name = kind.removesuffix("_delta").removesuffix("_beta")
        return {"losses": {"denoise": {"kind": name, "delta": 0.5}}}

    def loss(
        self, scene: Scene, prediction: Tensor, kind: str, dtype: Any = torch.float32
    ) -> Tensor:
        predicted = unframed(prediction)
        _, channels, *_, h, w = predicted.shape
        names = {"mask": stacked(scene).to(dtype), "h": h, "w": w, "c": channels, "F": functional}
        run(self.video if predicted.ndim == 5 else self.image, names)
        function = self.error(Stub(config={} if kind == "mse" else {kind: 0.5}))
        return function(predicted, (unframed(scene.target), names["mask"]))
