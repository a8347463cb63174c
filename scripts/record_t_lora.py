"""Records what T-LoRA's authors' own code gives, for tests/adapters/routed/test_t_lora.py.

    python scripts/record_t_lora.py CHECKOUT

CHECKOUT is a folder of ControlGenAI/T-LoRA (MIT; read at 602c4f7). Its layers and attention
processors are imported and run on a tiny UNet; the two schedules are cut out of its trainers and
run. `tests/adapters/routed/t_lora.json` gets the numbers, none of the code is kept.
"""

import ast
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.adapters.routed import t_lora_scene as scene  # noqa: E402

TO = ROOT / "tests/adapters/routed/t_lora.json"
COMMIT = "602c4f7"
NAMES = {
    "lora": {"down": "down.weight", "up": "up.weight"},
    "ortho_lora": {
        "down": "q_layer.weight",
        "up": "p_layer.weight",
        "singular": "lambda_layer",
        "base.down": "base_q.weight",
        "base.up": "base_p.weight",
        "base.singular": "base_lambda",
    },
}


def cut_function(path: Path, name: str) -> Any:
    """A function of theirs by name, wherever in the file it is nested."""
    tree = ast.parse(path.read_text())
    found = next(
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name
    )
    space: dict[str, Any] = {"torch": torch}
    exec(compile(ast.Module([found], []), str(path), "exec"), space)
    return space[name]


def run_unet(kind: str, masks: torch.Tensor) -> torch.Tensor:
    """Their processors on every attention of the tiny UNet, under a mask of ranks a sample."""
    from tlora.model.lora import lora_linear_layers, lora_prosessors  # noqa: PLC0415

    unet = scene.build_unet()
    processors = {}
    for name in unet.attn_processors:
        cross = None if "attn1" in name else 32
        processor = lora_prosessors[kind](
            64, lora_linear_layer=lora_linear_layers[kind], cross_attention_dim=cross,
            rank=scene.RANK, sig_type="last",
        )  # fmt: skip
        for layer in scene.LAYERS:
            own = getattr(processor, f"{layer.removesuffix('.0')}_lora")
            parameters = dict(own.named_parameters())
            first = parameters[NAMES[kind]["down"]]
            last = parameters[NAMES[kind]["up"]]
            full = f"{name.removesuffix('.processor')}.{layer}"
            weights = scene.draw_weights(full, first.shape[1], last.shape[0])
            for ours, theirs in NAMES[kind].items():
                parameters[theirs].data.copy_(weights[ours].reshape(parameters[theirs].shape))
        processors[name] = processor
    unet.set_attn_processor(dict(processors))
    inputs = scene.draw_inputs()
    with torch.no_grad():
        return unet(
            inputs["sample"], inputs["timestep"], inputs["text"],
            cross_attention_kwargs={"sigma_mask": masks}, return_dict=False,
        )[0]  # fmt: skip


def main(checkout: Path) -> None:
    """Record schedules and outputs."""
    sys.path.insert(0, str(checkout))
    sdxl = cut_function(checkout / "tlora/trainer_sdxl.py", "get_mask_by_timestep")
    flux = cut_function(checkout / "flux/train.py", "get_rank_by_timestep")
    schedules = []
    for rank, least, power in scene.SCHEDULES:
        trainer = SimpleNamespace(config=SimpleNamespace(lora_rank=rank))
        counts = [int(sdxl(trainer, t, 1000, rank, least, power).sum()) for t in scene.TIMESTEPS]
        entry = {"rank": rank, "least": least, "power": power, "sdxl": counts}
        if power == 1:
            entry["flux"] = [flux(t, 1000, rank, least) for t in scene.TIMESTEPS]
        schedules.append(entry)
    times = scene.draw_inputs()["timestep"].tolist()
    trainer = SimpleNamespace(config=SimpleNamespace(lora_rank=scene.RANK))
    masks = torch.stack([sdxl(trainer, t, 1000, scene.RANK, 4, 1) for t in times])
    outputs = {
        kind: {
            "masked": run_unet(kind, masks).flatten().tolist(),
            "full": run_unet(kind, torch.ones_like(masks)).flatten().tolist(),
        }
        for kind in NAMES
    }
    record = {"repository": "ControlGenAI/T-LoRA", "commit": COMMIT, "licence": "MIT"}
    record |= {"least": 4, "timesteps": list(scene.TIMESTEPS), "schedules": schedules}
    rounded = {
        kind: {name: [round(v, 7) for v in values] for name, values in case.items()}
        for kind, case in outputs.items()
    }
    TO.write_text(json.dumps(record | {"outputs": rounded}) + "\n")
    print(f"{TO}: {TO.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
