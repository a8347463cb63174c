"""What the page asks to be sampled, as the command that does it."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from frisket.studio.runs.commands import PageForm, check_text, list_options

MaskId = Annotated[str, StringConstraints(pattern="^[0-9a-f]{16,18}$")]
PromptText = Annotated[str, StringConstraints(max_length=4000)]
SeedNumber = Annotated[int, Field(ge=0, lt=1 << 53)]  # what a page's numbers hold exactly
PictureSide = Annotated[int, Field(ge=8, le=8192)]
SampleCount = Annotated[int, Field(ge=1, le=10_000)]
Guidance = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
EVERYWHERE = "-"  # in place of a mask, as `runs.methods.regional`
# Begins an option in a prompt file, as `runs.sampling.prompt_file` reads them.
SIGN = re.compile(r"(?:^|\s)--(?=[A-Za-z])")


class PromptRow(PageForm):
    """A prompt with settings of its own; None is as for all."""

    prompt: PromptText
    negative: PromptText | None = None
    seed: SeedNumber | None = None
    steps: SampleCount | None = None
    guidance: Guidance | None = None

    @property
    def has_own(self) -> bool:
        """Whether it takes a line in a prompt file."""
        own_settings = (self.negative, self.seed, self.steps, self.guidance)
        return any(value is not None for value in own_settings)


class LoraChoice(PageForm):
    """A LoRA that acts; `painted` confines it to its own colour of the painting."""

    lora: MaskId
    strength: Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)] = 1.0
    painted: bool = False
    trigger: PromptText = ""


class GenerateForm(PageForm):
    """One call of `frisket generate`."""

    config: MaskId | None = None
    run: MaskId | None = None
    prompts: Annotated[list[PromptRow], Field(min_length=1, max_length=200)]
    seeds: Annotated[list[SeedNumber], Field(min_length=1, max_length=64)] = Field(
        default_factory=lambda: [0]
    )
    negative: PromptText = ""
    width: PictureSide | None = None
    height: PictureSide | None = None
    frames: SampleCount | None = None
    steps: SampleCount | None = None
    guidance: Guidance | None = None
    batch: Annotated[int, Field(ge=1, le=64)] | None = None
    loras: Annotated[list[LoraChoice], Field(max_length=8)] = Field(default_factory=list)
    painting: MaskId | None = None
    compare: bool = False
    method: Literal["", "freefuse", "tara"] = ""
    background: PromptText = ""
    fuse_step: SampleCount | None = None
    fuse_loras: bool = False
    fuse_bias: bool = False
    dry: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "GenerateForm":
        """Refuse here what the command would refuse, in the page's words."""
        if (self.config is None) == (self.run is None):
            raise ValueError("choose a configuration or a run: its model is sampled")
        if self.compare and not self.loras:
            raise ValueError("to compare with the base, choose a LoRA")
        if self.method and not self.loras:
            raise ValueError(f"{self.method} is for LoRAs: choose some")
        painted = [choice for choice in self.loras if choice.painted]
        if painted and self.method:
            raise ValueError(f"{self.method} finds each LoRA's place by itself: paint none")
        if painted and self.painting is None:
            raise ValueError("a LoRA is to act where it is painted, and nothing is painted")
        return self


def check_model(form: GenerateForm, names: Sequence[str]) -> None:
    """Refuse what a model whose weights were all trained cannot do, of those chosen by `names`.

    ValueError where one is not to act alone, everywhere and at strength 1.
    """
    if not names:
        return
    if len(form.loras) > 1 or form.loras[0].strength != 1:
        raise ValueError(
            f"{names[0]}: a model acts alone and at strength 1; remove the others, or turn it into"
            " a LoRA (frisket convert --extract)"
        )
    if form.method or form.loras[0].painted:
        raise ValueError(
            f"{names[0]}: a model acts everywhere; no painting and no word confines it"
        )


def build_argv(
    form: GenerateForm,
    config: Path,
    output: Path,
    *,
    find_lora: Callable[[str], Path],
    find_mask: Callable[[int], Path | None],
) -> tuple[list[str], str | None]:
    """The command behind `frisket`, and the prompt file that it reads from `output`, if any.

    `find_lora` gives the path of an id, `find_mask` the mask of the LoRA of a number (1 the first),
    None where nothing was painted for it. Raises ValueError for text that would not arrive as it
    is, and for a LoRA that is to act where nothing is painted.
    """
    argv = ["generate", str(config)]
    lines = None
    if any(row.has_own for row in form.prompts):
        lines = write_prompt_lines(form.prompts)
        argv.append(f"--prompt-file={output / 'prompts.txt'}")
    else:
        prompts = [_check_prompt(row.prompt) for row in form.prompts]
        argv += list_options("--prompt", prompts)
    argv += list_options("--seed", [str(seed) for seed in dict.fromkeys(form.seeds)])
    negative = check_text("negative prompt", form.negative)
    if negative:
        argv.append(f"--negative={negative}")
    for name in ("width", "height", "frames", "steps", "guidance", "batch"):
        value = getattr(form, name)
        if value is not None:
            argv.append(f"--{name}={value:g}" if name == "guidance" else f"--{name}={value}")
    argv += _list_lora_options(form, find_lora, find_mask)
    argv.append(f"--output={output}")
    return argv, lines


def _list_lora_options(
    form: GenerateForm, find_lora: Callable[[str], Path], find_mask: Callable[[int], Path | None]
) -> list[str]:
    if not form.loras:
        return ["--base"]
    options = list_options("--lora", [str(find_lora(choice.lora)) for choice in form.loras])
    options += list_options("--strength", [f"{choice.strength:g}" for choice in form.loras])
    if any(choice.painted for choice in form.loras):
        options += list_options("--lora-mask", _list_masks(form.loras, find_mask))
    if form.compare:
        options.append("--compare")
    return options + _list_fuse_options(form)


def _list_masks(loras: Sequence[LoraChoice], find_mask: Callable[[int], Path | None]) -> list[str]:
    masks = []
    for number, choice in enumerate(loras, 1):
        mask = find_mask(number) if choice.painted else None
        if choice.painted and mask is None:
            raise ValueError(
                f"LoRA {number} is to act where it is painted, and its colour is nowhere: paint it,"
                " or let it act everywhere"
            )
        masks.append(str(mask) if mask else EVERYWHERE)
    return masks


def _list_fuse_options(form: GenerateForm) -> list[str]:
    """Options of a method that finds each LoRA's place by its words."""
    if not form.method:
        return []
    options = [f"--fuse={form.method}"]
    options += list_options("--trigger", _list_triggers(form))
    if form.method == "freefuse":
        background = check_text("background", form.background)
        options += [f"--fuse-background={background}"] if background else []
        options += [f"--fuse-step={form.fuse_step}"] if form.fuse_step else []
        options += ["--fuse-with-loras"] if form.fuse_loras else []
        options += ["--fuse-bias"] if form.fuse_bias else []
    return options


def _list_triggers(form: GenerateForm) -> list[str]:
    """The words of each LoRA; none for TARA where one has none, which its file then says."""
    triggers = [check_text("trigger", choice.trigger) for choice in form.loras]
    if form.method == "freefuse" and not all(triggers):
        number = triggers.index("") + 1
        raise ValueError(f"LoRA {number} has no trigger: the words of the prompt it is about")
    odd_text = next((trigger for trigger in triggers if "=" in trigger), None)
    if odd_text is not None:
        raise ValueError(f"trigger {odd_text!r}: words of a prompt have no `=`")
    return triggers if all(triggers) else []


def _check_prompt(prompt: str) -> str:
    clean_prompt = check_text("prompt", prompt)
    if not clean_prompt:
        raise ValueError("a prompt is empty: write what is to be seen, or remove the line")
    return clean_prompt


def write_prompt_lines(rows: Sequence[PromptRow]) -> str:
    """Prompts with settings of their own, as `--prompt-file` reads them.

    ValueError for a prompt whose words would be read as an option or a comment there.
    """
    lines = []
    for row in rows:
        prompt = _check_prompt(row.prompt)
        negative = check_text("negative prompt", row.negative or "")
        odd_text = next((text for text in (prompt, negative) if SIGN.search(text)), None)
        if odd_text is not None:
            raise ValueError(
                f"{odd_text[:60]!r}: in a table of prompts `--x` would begin an option"
            )
        if prompt.startswith("#"):
            raise ValueError(f"{prompt[:60]!r}: in a table of prompts `#` would begin a comment")
        own_settings: Mapping[str, object] = {
            "n": negative or None,
            "d": row.seed,
            "s": row.steps,
            "l": None if row.guidance is None else f"{row.guidance:g}",
        }
        options = [
            f"--{letter} {value}" for letter, value in own_settings.items() if value is not None
        ]
        lines.append(" ".join([prompt, *options]))
    return "\n".join(lines) + "\n"
