"""A control picture that samples are to follow: all that can be refused is, before any loading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.config.calls import ControlOptions
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.data.control.files import ControlFile, read_control
from frisket.families.base import Family, Parts, Source
from frisket.families.control.base import ControlSupport
from frisket.families.control.branch import connect_control
from frisket.families.experts import first
from frisket.inference.methods.base import Method
from frisket.inference.methods.control import ControlMethod
from frisket.inference.methods.plugin import ClipSize
from frisket.inference.sample_specs import SampleSpec
from frisket.media.frames import probe
from frisket.media.geometry import Geometry, fits
from frisket.runs.control.nets import check_fit, load_net, load_support
from frisket.runs.control.results import CONTROLNET, find_trained_net
from frisket.runs.control.setup import is_control_run, load_shapes
from frisket.runs.methods.identity.digests import digest_files
from frisket.runs.methods.identity.masking import lay_masks
from frisket.shapes import Clip, Weights

LABEL = "control"  # in file names, labels and records


@dataclass(frozen=True, slots=True)
class ControlPlan:
    """A net that was found, and its control at every size that is sampled."""

    options: ControlOptions
    net: Path
    support: ControlSupport
    controls: Mapping[ClipSize, Clip]
    masks: Mapping[ClipSize, Weights] = field(default_factory=dict)

    def build(self, family: Family, parts: Parts, source: Source) -> Method:
        """The method for a loaded denoiser; ConfigError for a net of another model."""
        assert parts.denoiser is not None
        assert parts.vae is not None
        model = first(parts.denoiser)
        net = load_net(
            self.support,
            self.net,
            source.variant,
            dtype=source.dtype,
            device=source.device,
            option="--control-net",
        )
        check_fit(self.support, net, model, "--control-net", self.net)
        branch = connect_control(family, parts.denoiser, net)
        scale = self.options.scale
        return ControlMethod(self.support, net, branch, parts.vae, self.controls, scale, self.masks)

    def describe(self) -> dict[str, Any]:
        """What `generate.json` says of it: all that is needed to do the same again."""
        options = self.options
        assert options.picture is not None
        described: dict[str, Any] = {
            "picture": digest_files(options.picture),
            "net": digest_files(self.net),
            "scale": options.scale,
        }
        return described | ({"mask": digest_files(options.mask)} if options.mask else {})


def plan_control(
    options: ControlOptions,
    config: Config,
    family: Family,
    source: Source,
    specs: Sequence[SampleSpec],
) -> ControlPlan | None:
    """What is asked for, laid out for these samples; None where no control is.

    ConfigError for a net that is not there, a family or variant without ControlNets, methods of
    [[identity]] beside it, and a picture, clip or mask of another aspect or number of frames;
    BadMedia for a file that is no picture.
    """
    if options.picture is None:
        _refuse_without_picture(options)
        return None
    support = load_support(family, source.variant, "--control")
    if config.identity:
        raise ConfigError(
            "--control and a method (--method, [[identity]]) were not shown to go together: leave"
            " one of them out"
        )
    net = find_net_folder(options, config)
    shapes = load_net(
        support, net, source.variant, dtype=source.dtype, device="meta", option="--control-net"
    )
    denoiser = load_shapes(config, family)
    if denoiser is not None:
        check_fit(support, shapes, denoiser, "--control-net", net)
    sizes = sorted({(spec.frames, spec.height, spec.width) for spec in specs})
    controls = {size: lay_control(options.picture, size) for size in sizes}
    grid = family.variants[source.variant].grid
    masks = lay_masks(options.mask, sizes, grid, option="--control-mask", owner="ControlNet")
    return ControlPlan(options, net, support, controls, masks)


def _refuse_without_picture(options: ControlOptions) -> None:
    for name, option in (("net", "--control-net"), ("mask", "--control-mask")):
        if getattr(options, name) is not None:
            raise ConfigError(
                f"{option} {getattr(options, name)} says nothing without a picture to follow: give"
                " --control FILE, or leave it out"
            )
    if options.scale != 1:
        raise ConfigError(
            f"--control-scale {options.scale:g} says nothing without a picture to follow: give"
            " --control FILE, or leave it out"
        )


def find_net_folder(options: ControlOptions, config: Config) -> Path:
    """The net that is named, else the one the run trained, else the one it trained beside."""
    if options.net is not None:
        return options.net
    if is_control_run(config):
        trained = find_trained_net(config.run.output)
        if trained is None:
            raise ConfigError(
                f"--control: {config.run.output / CONTROLNET} is not there yet: train first, or"
                " name another ControlNet (--control-net FOLDER)"
            )
        return trained
    if config.control.source is None:
        raise ConfigError(
            f"--control {options.picture}: which ControlNet follows it is not said: give"
            " --control-net FOLDER (diffusers' layout), or control.source in the config"
        )
    return config.control.source


def lay_control(path: Path, size: ClipSize) -> Clip:
    """A picture or clip at the size of samples, 1 3 F H W, RGB in [0, 1].

    One picture stands for all frames. Exact area means when shrinking, linear when enlarging, as
    in training. ConfigError for another aspect or number of frames, BadMedia for no picture.
    """
    frames, height, width = size
    if not path.exists():
        raise ConfigError(f"there is no control picture {path} (--control)")
    media = probe(path)
    media_size = (media.height, media.width)
    if not fits(media_size, (height, width)):
        raise ConfigError(
            f"{path} (--control) is {media.width} x {media.height} and the samples are"
            f" {width} x {height} (width x height): the aspect ratios differ; set --width and"
            " --height to its own, or crop it"
        )
    if media.frames not in (1, frames):
        raise ConfigError(
            f"{path} (--control) has {media.frames} frames, and {frames} are sampled: give a"
            f" picture, or as many frames (--frames {media.frames})"
        )
    geometry = Geometry(media_size, (height, width), tuple(range(media.frames)))
    pixels = read_control(ControlFile(path, "", media), geometry, media.frames)
    return (pixels.float() / 255).expand(-1, frames, -1, -1)[None]
