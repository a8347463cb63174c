# ruff: noqa: PLC0415
"""Records what kohya_ss makes of GUI configurations: the fields' defaults, and the TOML it writes.

    python scripts/peers/gui.py KOHYA_SS COMMIT DEFAULTS TESTS

Needs gradio as its requirements pin it, easygui, psutil and toml. KOHYA_SS is a folder with the
repository's text. The interface is built as it builds itself; a configuration is opened by its
`open_configuration`, goes through its fields, and is printed by its `train_model`.
"""

import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from options import Finder

SECRETS = ("wandb_api_key", "huggingface_token")
PICTURES = {"10_sks thing": 3, "2_other": 5}  # folders of the data, and pictures in them


def fields(root: Path) -> tuple[Any, dict[str, Any]]:
    """The module of the LoRA tab, and the fields by name."""
    sys.path.insert(0, str(root))
    os.chdir(root)
    import gradio

    installed = [Path(each) for each in sys.path if "site-packages" in each]
    sys.meta_path.append(Finder([*installed, root]))
    logging.disable(logging.CRITICAL)
    from kohya_gui import lora_gui
    from kohya_gui.class_gui_config import KohyaSSGUIConfig

    with gradio.Blocks(), contextlib.redirect_stdout(io.StringIO()):
        lora_gui.lora_tab(headless=True, config=KohyaSSGUIConfig("none.toml"))
    return lora_gui, dict(lora_gui.last_built_field_registry)


def through(field: Any, value: Any) -> Any:
    """A value as the browser would hand it back to the program."""
    try:
        shown = field.postprocess(value)
        return field.preprocess(shown.model_dump() if hasattr(shown, "model_dump") else shown)
    except Exception:  # beyond what the field takes today: as the file has it
        return value


def opened(gui: Any, parts: dict[str, Any], given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The fields' values once a configuration is opened."""
    file = folder / "given.json"
    file.write_text(json.dumps(given))
    values = {name: field.value for name, field in parts.items()}
    with contextlib.redirect_stdout(io.StringIO()):
        told = gui.open_configuration(False, False, str(file), **values, training_preset="none")
    found = dict(zip(parts, told[1:], strict=False))
    return {name: through(parts[name], found[name]) for name in parts}


def toml_of(gui: Any, values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The script that is started and the TOML it is given, as `train_model` prints them."""
    out = folder / "out"
    emptied(out)
    values = values | {"output_dir": str(out), "logging_dir": "", "output_name": "name"}
    gui.get_executable_path = lambda _: "accelerate"
    gui.validate_model_path = lambda *_, **__: True
    gui.validate_file_path = lambda *_, **__: True
    gui.validate_folder_path = lambda *_, **__: True
    gui.validate_toml_file = lambda *_, **__: True
    commands: list[Any] = []
    gui.print_command_and_toml = lambda command, _: commands.append(command)
    with contextlib.redirect_stdout(io.StringIO()):
        gui.train_model(headless=True, print_only=True, **values)
    files = list(out.glob("config_lora-*.toml"))
    if not files:
        return {}
    command = [str(word) for word in commands[0]]
    script = next(i for i, word in enumerate(command) if word.endswith(".py"))
    tree = tomllib.loads(files[0].read_text())
    tree = {n: v for n, v in tree.items() if n not in ("output_dir", "sample_prompts")}
    more = [word for word in command[script + 1 :] if word not in ("--config_file", str(files[0]))]
    return {"script": Path(command[script]).name, "toml": tree, "typed": more}


SWITCHES = {
    "Flux1": "flux1_checkbox",
    "Flux1 OFT": "flux1_checkbox",
    "HunyuanImage-2.1": "hunyuan_image_checkbox",
    "Anima": "anima_checkbox",
    "Lumina": "lumina_checkbox",
    "Kohya LoHa": "sdxl",
    "Kohya LoKr": "sdxl",
}
NETWORK = (
    *("conv", "dropout", "norm", "factor", "rescale", "constrain", "use_", "unit", "both", "wd"),
    *("plus", "block", "split", "bypass", "input", "ggpo", "t5xxl", "cache", "chroma", "mem_eff"),
    *("logit", "timesteps"),
)
KEEP = ("LoRA_type", "LyCORIS_preset", "max_train_steps", "noise_offset_type", "lr_scheduler")


def by_hand(parts: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every kind of LoRA and every model, with nearly all fields off their defaults."""
    kinds = [kind if isinstance(kind, str) else kind[1] for kind in parts["LoRA_type"].choices]
    wanted = [(kind, SWITCHES.get(kind, "")) for kind in kinds]
    wanted += [("Standard", "sd3_checkbox"), ("LyCORIS/LoKr", "flux1_checkbox")]
    found = []
    for number, (kind, switch) in enumerate(wanted):
        given: dict[str, Any] = {"LoRA_type": kind, "max_train_steps": (0, 300)[number % 2]}
        near = (*NETWORK, switch.partition("_")[0] or "none")
        for name, field in parts.items():
            value = field.value
            if number > 1 and not any(each in name for each in near):
                continue
            if name.endswith(("checkbox", "_dir", "_config")) or name in (*KEEP, "v2", "sdxl"):
                continue
            if isinstance(value, bool):
                given[name] = not value if number % 3 else value
            elif isinstance(value, int | float):
                given[name] = 2 if isinstance(value, int) or value >= 1 else 0.25
        given |= {"noise_offset_type": ("Original", "Multires")[number % 2], "noise_offset": 0.05}
        given |= {"anima_torch_compile": False, "unet_lr": (1e-4, 0)[number % 5 == 4], "seed": 7}
        given |= {"lr_warmup_steps": (0, 20)[number % 2], "t5xxl_lr": 1e-5, "guidance_scale": 1.5}
        given |= {"down_lr_weight": "1,1", "block_dims": "2,2", "img_attn_dim": "4", "epoch": 3}
        given |= {"num_processes": 1, "model_type": ("flux", "chroma")[number % 2]}
        if switch:
            given[switch] = True
        found.append((f"{kind} {switch}".strip(), given))
    return found


def emptied(out: Path) -> None:
    """An empty folder."""
    out.mkdir(exist_ok=True)
    for file in out.glob("*.toml"):
        file.unlink()


def main(root: Path, commit: str, defaults: Path, tests: Path) -> None:
    """Write both files."""
    gui, parts = fields(root)
    start = {name: field.value for name, field in parts.items()}
    header = f"bmaltais/kohya_ss {commit}"
    rows = ",\n".join(f"{json.dumps(n)}: {json.dumps(v)}" for n, v in start.items())
    defaults.write_text(f'{{\n"source": {json.dumps(header)},\n"fields": {{\n{rows}\n}}\n}}\n')
    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for each, count in PICTURES.items():
            (folder / "img" / each).mkdir(parents=True)
            for number in range(count):
                (folder / "img" / each / f"{number}.png").touch()
        plain = {"train_data_dir": str(folder / "img")}
        base = toml_of(gui, opened(gui, parts, plain, folder), folder)["toml"]
        base["train_data_dir"] = "img"
        files = sorted(root.glob("presets/lora/*.json")) + sorted(root.glob("test/config/lo*.json"))
        jobs = [(file.name, json.loads(file.read_text())) for file in files]
        jobs = [(name, given) for name, given in jobs if "LoRA_type" in given]
        for name, written in [*jobs, *by_hand(parts)]:
            given = {"max_train_steps": 0}  # files older than the field: epochs count
            given |= {n: "" if n in SECRETS else v
                      for n, v in written.items()}  # fmt: skip
            own = {} if given.get("dataset_config") else {"train_data_dir": str(folder / "img")}
            given |= own | {"reg_data_dir": "", "output_dir": "", "logging_dir": ""}
            made = toml_of(gui, opened(gui, parts, given, folder), folder)
            if own:
                given["train_data_dir"] = made["toml"]["train_data_dir"] = "img"
            kept = ("optimizer", "max_train_steps", "LoRA_type")  # their absence tells an age
            given = {n: v for n, v in given.items() if n in kept or v != start.get(n, v is None)}
            tree = made.pop("toml")
            more = {n: v for n, v in tree.items() if n not in base or base[n] != v}
            less = [n for n in base if n not in tree]
            cases.append({"name": name, "given": given, "more": more, "less": less, **made})
    rows = ",\n".join(map(json.dumps, cases))
    folders = json.dumps(PICTURES)
    tests.write_text(
        f'{{\n"source": {json.dumps(header)},\n"pictures": {folders},\n'
        f'"base": {json.dumps(base)},\n"cases": [\n{rows}\n]\n}}\n'
    )


if __name__ == "__main__":
    source, commit, *files = sys.argv[1:]
    main(Path(source).resolve(), commit, *(Path(file).resolve() for file in files))
