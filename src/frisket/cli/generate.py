"""`frisket generate`, apart from the recipe so that help needs no torch."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from frisket.cli.model_options import TypedOptions, add_command
from frisket.cli.report.event_file import record_output
from frisket.progress import Bar

if TYPE_CHECKING:
    from frisket.config.calls import GenerateRequest
    from frisket.config.tree import Config


def add(app: typer.Typer, bar: Bar) -> None:
    """Add the command, with a progress bar of the caller's."""

    def generate(typed: TypedOptions) -> None:
        """Sample pictures or clips by prompt, with a LoRA, without, or both.

        Methods that keep a face, person or thing act besides (docs/identity). What is left open is
        as in [preview], then as the model's variant has it.
        """
        from frisket.config.identity.typed import lay_methods
        from frisket.config.load import check, read_both
        from frisket.recipes.generate import generate as run
        from frisket.runs.sampling.gallery import new_folder, write_gallery

        request, config, origin = read_both(_load_request(), typed)
        config, origin = lay_methods(request.methods, config, origin)
        check(config, origin)
        settings = request.preview.sampling()  # what is typed, over what is sampled in training
        prompts, folder = request.preview.prompts, config.run.output
        if request.prompt_file and ("preview", "prompts") not in typed:
            prompts = ()
        loras = choose_parts(config, request)
        with bar() as progress:
            samples = run(
                config,
                prompts,
                partial(new_folder, request.output, folder / "samples"),
                lora=loras,
                masks=request.lora_masks,
                without=request.compare,
                fuse=request.fuse,
                control=request.structure,
                seeds=request.preview.seeds,
                prompt_file=request.prompt_file,
                batch=request.batch,
                progress=progress,
                **settings,
            )
        page = write_gallery(samples.grid.parent.parent) if request.output is None else None
        record_output("pictures", samples.grid.parent)
        if page:
            record_output("page", page)
        count = f"{len(samples.pictures)} sample" + "s" * (len(samples.pictures) != 1)
        typer.echo(f"{count}, {samples.grid}" + (f"; all so far: {page}" if page else ""))

    add_command(app, "generate", generate, _load_request, of_training=True)


def _load_request() -> "type[GenerateRequest]":
    from frisket.config.calls import GenerateRequest

    return GenerateRequest


def choose_parts(config: "Config", request: "GenerateRequest") -> list[tuple[Path, float]]:
    """The LoRAs (or the model) of a call with their strengths, as `choose_adapters`.

    BadParameter where a run trained what samples only when it is shown a picture, and none is
    given.
    """
    kind, is_named = config.model.train, request.base or bool(request.loras)
    if kind == "image_adapter" and not (is_named or config.identity):
        stop_for_image_adapter(config, request.config)
    if kind == "controlnet" and not is_named and request.structure.picture is None:
        stop_for_controlnet(config, request.config)
    has_no_lora = kind == "controlnet" and not request.loras and not request.strengths
    return choose_adapters(
        config.run.output,
        list(request.loras),
        list(request.strengths),
        base=request.base or has_no_lora,
        train=kind,
        optional=bool(config.identity),
    )


def stop_for_image_adapter(config: "Config", config_file: Path) -> None:
    """Say where the image adapter of a run is, and which command samples with it.

    Raises BadParameter: what it trained needs a picture to be shown, and nothing else was asked
    for; and where it is not there yet.
    """
    from frisket.runs.image_adapters.results import describe_result, write_command

    path = config.run.output / describe_result(config.image_adapter.kind).path
    if not path.exists():
        raise typer.BadParameter(
            f"{path} is not there yet: train first, or sample the base alone with --base"
        )
    raise typer.BadParameter(
        f"{path} is an image adapter, which is shown a picture: sample with it by\n"
        f"{write_command(config, str(config_file))}"
    )


def stop_for_controlnet(config: "Config", config_file: Path) -> None:
    """Say where the ControlNet of a run is, and which command samples with it.

    Raises BadParameter: it follows a picture, and none was given; and where it is not there yet.
    """
    from frisket.runs.control.results import CONTROLNET, find_trained_net

    if find_trained_net(config.run.output) is None:
        raise typer.BadParameter(
            f"{config.run.output / CONTROLNET} is not there yet: train first, or sample the base"
            " alone with --base"
        )
    raise typer.BadParameter(
        f"{config.run.output / CONTROLNET} is a ControlNet, which follows a picture: sample with it"
        f" by\nfrisket generate {config_file} --control PICTURE -p PROMPT"
    )


def choose_adapters(
    output: Path,
    loras: list[Path],
    strengths: list[float],
    *,
    base: bool,
    train: str = "lora",
    optional: bool = False,
) -> list[tuple[Path, float]]:
    """LoRA files with their strengths: those asked for, else the one the config trained.

    A run that trained all weights has a model in its place; of a folder that was used for both
    kinds, the one that `train` (`model.train`) says. Where one is `optional` and none was
    trained, that is said and none is taken.
    """
    if base and (loras or strengths):
        raise typer.BadParameter("--base samples without a LoRA; leave out --lora and --strength")
    if base:
        return []
    loras = loras or _list_trained(output, train, optional=optional)
    if len(strengths) > len(loras):
        raise typer.BadParameter(f"{len(strengths)} --strength for {len(loras)} --lora")
    return list(zip(loras, strengths + [1.0] * (len(loras) - len(strengths)), strict=True))


def _list_trained(output: Path, train: str, *, optional: bool) -> list[Path]:
    """The LoRA of a run folder, or its model; BadParameter where it has neither.

    Where one is optional, it is said that there is none.
    """
    from frisket.runs.sampling.whole_models import find_model

    lora, model = output / "lora.safetensors", find_model(output)
    has_lora = lora.is_file() or any(output.glob("lora-*.safetensors"))  # one an expert
    if model is not None and (train == "all" or not has_lora):
        return [model]
    if has_lora:
        return [lora]
    if not optional:
        raise typer.BadParameter(f"{lora} is not there yet: train first, or give --lora or --base")
    typer.echo(f"{lora} is not there: the methods act on the base model", err=True)
    return []
