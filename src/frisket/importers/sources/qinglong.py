"""Training presets of the qinglong GUI (.toml) as the options that it starts musubi-tuner with.

After `build_train_job` of gui/utils/command_builder.py at sdbds/musubi-tuner-scripts 27ee153;
tests/importers/sources/qinglong.json holds what it makes of the repository's own presets.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frisket.disk.toml_lines import Key
from frisket.disk.untrusted import show
from frisket.importers.base import BadImport, Note
from frisket.importers.files import Written, peek, read_config
from frisket.importers.qinglong.fields import (
    ATTENTION,
    COMPILED,
    COUNTS,
    FREE,
    MODELS,
    OPTIMIZERS,
    OWN_VALUES,
    PATHS,
    RENAMED,
    SWITCHES,
    UNLESS,
    VALUES,
    VERSIONS,
    WEIGHTINGS,
)
from frisket.importers.shells.options import BadShellOption, convert_word, read_option_types
from frisket.importers.shells.words import Word
from frisket.importers.source_base import ConfigSource, SourceForm, Sources

MARKS = ("arch", "dit_path", "_source_script", "te1_path", "persistent_workers", "attn_mode")
LACKING = ("soar", "dopsd", "multi_gpu")  # what changes a training and has no equal here
ADAPTED = (  # options that a training of the whole model does not get
    *("network_module", "network_args", "network_dim", "network_alpha", "network_dropout"),
    *("scale_weight_norms", "network_weights", "dim_from_weights", "base_weights"),
    *("base_weights_multiplier", "fp8_base", "fp8_scaled"),
)
WHOLE_SWITCHES = ("full_bf16", "fused_backward_pass", "mem_eff_save")
WHOLE_MODEL = ("finetune", "fine_tune", "full", "db", "dreambooth")


def matches(path: Path) -> bool:
    """A TOML table with several fields of the GUI's page of training."""
    tree = peek(path) if path.suffix.lower() == ".toml" else None
    return isinstance(tree, dict) and "arch" in tree and sum(name in tree for name in MARKS) >= 3


def read(path: Path, command: int | None = None) -> Sources:
    """The options of the training; its data sets are in the file `dataset_config` names."""
    if command is not None:
        raise BadImport(f"{path}: holds no commands; leave --command out")
    written = read_config(path)
    model = written.tree.get("arch")
    if not isinstance(model, str) or model not in MODELS:
        models = ", ".join(MODELS)
        at = written.where(("arch",))
        raise BadImport(f"{at}: arch = {show(model, 40)}: none of the models here: {models}")
    preset = _Preset(written, model)
    preset.fill()
    converted = Written(path, preset.tree, preset.lines)
    script = f"{MODELS[model][0]}_train{'' if preset.whole else '_network'}.py"
    notes = tuple(_note_dropped(preset))
    return (ConfigSource("musubi", "training", "qinglong preset", converted, script, notes),)


class _Preset:
    """One preset, and the options that come of it."""

    def __init__(self, written: Written, model: str) -> None:
        self.written, self.model = written, model
        self.tree: dict[str, Any] = {}
        self.lines: dict[Key, int] = {}
        self.types = read_option_types("musubi")
        self.used = {"arch", "train_mode"}
        self.whole = self.word("train_mode").replace("-", "_") in WHOLE_MODEL

    def value(self, name: str) -> Any:
        """A field; None for one that is not there or blank. BadImport for a table."""
        self.used.add(name)
        value = self.written.tree.get(name)
        if isinstance(value, dict):
            raise self.bad(name, "text, a number or true or false is needed")
        return (
            None if value in ("", []) or (isinstance(value, str) and not value.strip()) else value
        )

    def word(self, name: str) -> str:
        """A field as text in lower case."""
        value = self.value(name)
        return "" if value is None else str(value).strip().lower()

    def on(self, name: str) -> bool:
        """Whether a switch is on, be it text or a number."""
        value = self.value(name)
        if isinstance(value, str):
            return value.strip().lower() in ("1", "true", "yes", "on")
        return bool(value)

    def number(self, name: str, default: float | int) -> float:
        """A field that is a number, its default where it is none."""
        try:
            return float(self.value(name))
        except (TypeError, ValueError):
            return float(default)

    def bad(self, name: str, message: str) -> BadImport:
        """The error for a field, to be raised."""
        value = show(self.written.tree.get(name), 60)
        return BadImport(f"{self.written.where((name,))}: {name} = {value}: {message}")

    def put(self, option: str, value: Any, *names: str) -> None:
        """An option, typed as musubi-tuner types it, with the line of its field."""
        if value is None or value is False or value == "":
            return
        self.tree[option] = self._read_typed(option, value, names[0] if names else option)
        lines = (self.written.line((name,)) for name in (*names, option))
        if (line := next(filter(None, lines), None)) is not None:
            self.lines[(option,)] = line

    def _read_typed(self, option: str, value: Any, field: str) -> Any:
        """The value of a field as musubi-tuner's parser types it; what stands in a list is text."""
        kind = self.types.get(option, "str")
        if isinstance(value, list):
            return [str(entry) for entry in value]
        if kind not in ("bool", "str") and not isinstance(value, bool):
            try:
                value = convert_word(kind, Word(str(value), 0), option)
            except BadShellOption as error:
                raise self.bad(field, error.message) from error
        return value if isinstance(value, bool | int | float) else str(value)

    def fill(self) -> None:
        """Put all options that musubi-tuner is started with."""
        lycoris = self.on("enable_lycoris")
        self._put_paths(lycoris=lycoris)
        self._put_plain()
        self._put_weights(lycoris=lycoris)
        self._put_output()
        self._put_memory()
        self._put_progress()
        self._put_noise_levels()
        self._put_optimizer()
        self.put("network_args", self._list_arguments(lycoris=lycoris), "enable_lycoris")
        if self.whole:
            for name in ADAPTED:
                self.tree.pop(name, None)
            for name in (*WHOLE_SWITCHES, "block_swap_optimizer_patch_params"):
                if name in WHOLE_SWITCHES or self.model == "Z-Image":
                    self.put(name, self.on(name))

    def _put_paths(self, *, lycoris: bool) -> None:
        _, network, paths, _ = MODELS[self.model]
        self.put("dataset_config", self.value("dataset_config"))
        for path in paths:
            option, names = PATHS[path]
            set_names = [name for name in names if self.value(name) is not None]
            self.put(option, self.value(set_names[0]) if set_names else None, *set_names)
        self.put(
            "network_module", "lycoris.kohya" if lycoris else network, "enable_lycoris", "arch"
        )

    def _put_plain(self) -> None:
        """Options that hang on one field."""
        for name in VALUES:
            self.put(name, self.value(name))
        for name in (*SWITCHES, *MODELS[self.model][3]):
            option = RENAMED.get(name, name)
            self.put(option, self.value(name) if name in OWN_VALUES else self.on(name), name)
        for name in COUNTS:
            count = self.number(name, 0)
            self.put(name, int(count) if count > 0 else None)
        for name, default in UNLESS.items():
            value = self.value(name)
            self.put(name, value if self.number(name, default) != default else None)

    def _put_weights(self, *, lycoris: bool) -> None:
        """What training begins with."""
        if not lycoris and self.number("network_dropout", 0):
            self.put("network_dropout", self.value("network_dropout"))
        self.put("resume", self.value("resume_path"), "resume_path")
        self.put("network_weights", self.value("network_weights"))
        if self.value("network_weights") is not None:
            self.put("dim_from_weights", self.on("dim_from_weights"))
        if (base := self.value("base_weights")) is not None:
            self.put("base_weights", _as_list(base))
            factors = _as_list(self.value("base_weights_multiplier"))
            try:
                self.tree["base_weights_multiplier"] = [float(factor) for factor in factors]
            except ValueError as error:
                raise self.bad("base_weights_multiplier", "numbers are needed") from error

    def _put_output(self) -> None:
        self.put("output_dir", self.value("output_dir") or "./output_dir")
        self.put("mixed_precision", {"bfloat16": "bf16", "float16": "fp16"}.get(
            self.word("mixed_precision"), self.word("mixed_precision") or "bf16"))  # fmt: skip
        version = self.value("version")
        version = self.value("edit_version") if version in (None, "default") else version
        if self.model in ("FLUX.2", "Qwen Image") and version is not None:
            self.put("model_version", VERSIONS.get(str(version), str(version)), "version")

    def _put_memory(self) -> None:
        if self.on("gradient_checkpointing"):
            self.put("gradient_checkpointing", value=True)
            offload = "gradient_checkpointing_cpu_offload"
            self.put(offload, self.on(offload))
        if self.number("blocks_to_swap", 0) > 0:
            self.put("blocks_to_swap", self.value("blocks_to_swap"))
            pinned = "use_pinned_memory_for_block_swap"
            self.put(pinned, self.on("use_pinned_memory"), "use_pinned_memory")
        for name in (
            "compile_backend",
            "compile_mode",
            "compile_dynamic",
            "compile_cache_size_limit",
        ):
            self.put(name, self.value(name) if self.on("compile") else None)
        self.put("compile", self.on("compile"))
        self.put("compile_fullgraph", self.on("compile") and self.on("compile_fullgraph"))

    def _put_progress(self) -> None:
        """What is logged, saved and sampled while training goes on."""
        self.put("logging_dir", self.value("logging_dir") or "./logs")
        wandb = self.value("wandb_api_key") is not None
        self.put("log_with", "wandb" if wandb else "tensorboard", "wandb_api_key")
        tracker = self.value("log_tracker_name") or self.value("output_name") or "network_train"
        self.put("log_tracker_name", tracker if wandb else None)
        if attention := ATTENTION.get(self.word("attn_mode").replace("-", "_")):
            self.put(attention, True, "attn_mode")
        self._put_either("save_every_n_steps", "save_every_n_epochs")
        for name in ("save_state", "save_state_on_train_end"):
            self.put(name, self.on(name))
        if self.on("enable_sample"):
            self.put("sample_at_first", self.on("sample_at_first"))
            self._put_either("sample_every_n_steps", "sample_every_n_epochs")
            self.put("sample_prompts", self.value("sample_prompts"))

    def _put_either(self, first: str, second: str) -> None:
        name = first if self.number(first, 0) > 0 else second
        self.put(name, self.value(name) if self.number(name, 0) > 0 else None)

    def _put_noise_levels(self) -> None:
        sampling = self.word("timestep_sampling")
        if sampling == "qinglong":
            sampling = "qinglong_qwen" if self.model == "Qwen Image" else "qinglong_flux"
        self.put("timestep_sampling", sampling if sampling != "sigma" else None)
        if sampling in ("uniform_shift", "shift") and self.number("discrete_flow_shift", 1) != 1:
            self.put("discrete_flow_shift", self.value("discrete_flow_shift"))
        if sampling in ("sigmoid", "shift") and self.number("sigmoid_scale", 1) != 1:
            self.put("sigmoid_scale", self.value("sigmoid_scale"))
        weighting = self.word("weighting_scheme")
        weighting = "none" if weighting == "uniform" else weighting
        if weighting in WEIGHTINGS:
            self.put("weighting_scheme", weighting)
        defaults = {
            "logit_normal": {"logit_mean": 0.0, "logit_std": 1.0},
            "mode": {"mode_scale": 1.29},
        }
        for name, default in defaults.get(weighting, {}).items():
            self.put(name, self.value(name) if self.number(name, default) != default else None)

    def _put_optimizer(self) -> None:
        key = self.word("optimizer_type")
        free = key in FREE
        self.put("learning_rate", 1.0 if free else self.value("learning_rate"))
        if not key.endswith("schedulefree"):
            self.put("lr_scheduler", self.value("lr_scheduler"))
        if not key:
            return
        name, arguments = _find_optimizer(key, str(self.value("optimizer_type")).strip())
        self.put("optimizer_type", name)
        typed_in = self.value("optimizer_extra_args")
        if "optimizer_extra_args" in self.written.tree:
            rows = (row.partition("#")[0] for row in str(typed_in or "").splitlines())
            self.put("optimizer_args", " ".join(rows).split() or None)
            return
        rank = str(self.value("network_dim") or 32)
        filled_in = [argument.replace("{dim}", rank) for argument in arguments]
        self.put(
            "optimizer_args",
            [*filled_in, *self._list_more_arguments(key)] or None,
            "optimizer_type",
        )

    def _list_more_arguments(self, key: str) -> list[str]:
        """Arguments of an optimizer that hang on other fields."""
        arguments: list[str] = []
        if key in FREE and self.value("d_coef") is not None:
            arguments.append(f"d_coef={self.value('d_coef')}")
        if key in COMPILED and self.on("compile"):
            arguments.append("compiled_optimizer=True")
        if key in FREE and self.number("lr_warmup_steps", 0):
            arguments.append("safeguard_warmup=True" if key == "prodigy" else "growth_rate=1.02")
        if key in FREE and self.value("d0") is not None:
            arguments.append(f"d0={self.value('d0')}")
        return arguments

    def _list_arguments(self, *, lycoris: bool) -> list[str] | None:
        if not lycoris:
            return self._list_lora_arguments() or None
        algorithm = str(self.value("lycoris_algo") or "lokr")
        arguments = [f"algo={algorithm}"]
        if algorithm not in ("ia3", "diag-oft"):
            arguments += self._list_convolutions(algorithm)
            arguments += self._join_argument("preset", "lycoris_preset")
        if algorithm == "locon" and self.number("lycoris_dropout", 0):
            arguments.append(f"dropout={self.value('lycoris_dropout')}")
        if name := {"lokr": "factor", "dylora": "block_size"}.get(algorithm):
            arguments += self._join_argument(name, f"lycoris_{name}")
        arguments += self._list_switches(algorithm)
        if algorithm == "diag-oft" and self.on("lycoris_constrain"):
            arguments.append(f"constrain={self.value('lycoris_constrain')}")
        return arguments

    def _list_lora_arguments(self) -> list[str]:
        names: Sequence[str] = ()
        if self.on("enable_lora_plus"):
            names = ("loraplus_lr_ratio",)
        elif self.on("enable_blocks"):
            names = ("exclude_patterns", "include_patterns")
        return [argument for name in names for argument in self._join_argument(name, name)]

    def _join_argument(self, name: str, field: str) -> list[str]:
        """An argument as `name=value`; none where the field is blank."""
        value = self.value(field)
        return [] if value is None else [f"{name}={value}"]

    def _list_switches(self, algorithm: str) -> list[str]:
        """The arguments of a LyCORIS that are true or not there."""
        switches = [] if algorithm == "ia3" else ["train_norm"]
        switches += ["decompose_both", "full_matrix"] if algorithm == "lokr" else []
        if algorithm == "diag-oft" and self.number("lycoris_rescaled", 0):
            switches.append("rescaled")
        return [f"{switch}=True" for switch in switches if self.on(f"lycoris_{switch}")]

    def _list_convolutions(self, algorithm: str) -> list[str]:
        if algorithm == "full":
            return []
        arguments: list[str] = []
        for name in ("conv_dim", "conv_alpha") if self.number("lycoris_conv_dim", 0) else ():
            if self.number(f"lycoris_{name}", 0):
                arguments.append(f"{name}={self.value(f'lycoris_{name}')}")
        switches = ("use_tucker",) if algorithm == "dylora" else (
            *("use_tucker", "dora_wd", "bypass_mode", "use_scalar"),
        )  # fmt: skip
        return [
            *arguments,
            *(f"{switch}=True" for switch in switches if self.on(f"lycoris_{switch}")),
        ]


def _find_optimizer(key: str, name: str) -> tuple[str, tuple[str, ...]]:
    """The class behind a short name, and the arguments that go with it; an import path as it is."""
    if "." in name:
        return name, ()
    path, arguments = OPTIMIZERS.get(key, ("", ()))
    if key.endswith("schedulefree"):
        arguments = ("weight_decay=0.08", "weight_lr_power=0.001")
    return f"{path}{name}" if path.endswith(".") else path or name, arguments


def _as_list(value: Any) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    return [str(entry) for entry in entries if entry not in (None, "")]


def _note_dropped(preset: _Preset) -> list[Note]:
    notes: list[Note] = []
    line = preset.written.line
    if preset.whole:
        message = "trains the whole model; here a LoRA is trained, of the size in [lora]"
        notes.append(Note("train_mode", preset.word("train_mode"), "no equivalent", message,
                          line(("train_mode",))))  # fmt: skip
    for name in LACKING:
        if preset.on(name):
            notes.append(Note(name, True, "no equivalent", "is not here", line((name,))))
    for name, value in preset.written.tree.items():
        if name not in preset.used and not name.startswith("_") and value not in ("", False, 0):
            message = f"is not passed on to a training of {preset.model}"
            notes.append(Note(name, value, "not needed", message, line((name,))))
    return notes


FORM = SourceForm("qinglong GUI's training preset for musubi-tuner (.toml)", matches, read)
