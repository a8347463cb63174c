"""What a user did wrong is said before the denoiser is loaded, with what would do."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.inference.plugins import scene

from frisket.adapters.image.layouts import recognise
from frisket.adapters.spec import AdapterMismatch
from frisket.faces.base import EmbeddingMixup, FaceEmbedding
from frisket.families.base import FAMILIES, Parts
from frisket.inference.methods.identity.reference_method import pick_mask
from frisket.inference.methods.plugin import METHODS, MethodRequest, MethodUnusable, ReadMethod
from frisket.inference.methods.plugins.faceid import FaceIdOptions


@pytest.fixture(scope="module")
def parts() -> Parts:
    return scene.build_parts("stable_diffusion", "sd15")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> Path:
    """Files of every kind for the tiny SD 1.5, and both encoders."""
    folder = tmp_path_factory.mktemp("files")
    for kind in ("base", "plus", "faceid", "faceid-plus", "xlabs-flux"):
        family, denoiser = scene.load_family("stable_diffusion"), parts.denoiser
        if kind == "xlabs-flux":
            family = scene.load_family("flux")
            denoiser = family.tiny("dev").denoiser
        assert denoiser is not None
        scene.write_file(folder, scene.build_file(kind, family, denoiser))
    scene.write_encoder(folder)
    scene.write_encoder(folder, "siglip")
    return folder


def read(plugin: str, folder: Path, kind: str, **changes: Any) -> ReadMethod:
    family = scene.load_family(changes.pop("family", "stable_diffusion"))
    request: dict[str, Any] = {
        "source": folder / f"ip-adapter-{kind}.bin",
        "references": (scene.make_reference(),),
        "encoder": folder / "clip",
        **changes,
    }
    return METHODS.load(plugin).read(MethodRequest(**request), family, family.default)


MASK = {(1, 64, 64): torch.ones(1, 1, 1, 8, 8)}
FACELESS = replace(scene.make_reference(), face=None)
NARROW = replace(scene.make_reference(), face=FaceEmbedding(torch.arange(1.0, 129.0)))
POINTLESS = replace(scene.make_reference(), keypoints=None)


@pytest.mark.parametrize(
    ("plugin", "kind", "changes", "words"),
    [
        ("ip_adapter", "faceid", {}, "the method 'faceid' reads it"),
        ("faceid", "base", {}, "the method 'ip_adapter' reads it"),
        ("ip_adapter", "base", {"references": ()}, "no picture"),
        ("ip_adapter", "base", {"scale": float("nan")}, "scale is nan"),
        ("ip_adapter", "base", {"strict": True}, "give one"),
        ("ip_adapter", "base", {"encoder": None}, "give its folder"),
        ("ip_adapter", "base", {"family": "z_image"}, "place for a second attention"),
        ("ip_adapter", "base", {"family": "flux"}, "numbers its layers as a UNet's"),
        ("ip_adapter", "xlabs-flux", {}, "made for flux, not stable_diffusion"),
        ("faceid", "faceid", {"references": (FACELESS,)}, "no face was read"),
        ("faceid", "faceid-plus", {"references": (POINTLESS,)}, "five key points"),
    ],
)
def test_what_cannot_be_is_refused(
    folder: Path, plugin: str, kind: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(MethodUnusable, match=words):
        read(plugin, folder, kind, **changes)


def test_encoders_of_another_kind_or_none_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MethodUnusable, match="pooled embedding of a CLIP"):
        read("ip_adapter", folder, "base", encoder=folder / "siglip")
    with pytest.raises(FileNotFoundError, match="h94/IP-Adapter"):
        read("ip_adapter", folder, "plus", encoder=tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    with pytest.raises(MethodUnusable, match="'dinov2'"):
        read("ip_adapter", folder, "plus", encoder=tmp_path)
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(MethodUnusable, match="no configuration"):
        read("ip_adapter", folder, "plus", encoder=tmp_path)
    config = json.loads((folder / "clip/config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(MethodUnusable, match="cannot be loaded"):
        read("ip_adapter", folder, "plus", encoder=tmp_path)


def test_an_encoder_of_another_width_is_said_with_both(
    folder: Path, tmp_path: Path, parts: Parts
) -> None:
    family = scene.load_family("stable_diffusion")
    assert parts.denoiser is not None
    own = scene.build_file("base", family, parts.denoiser)
    projection = {key: value.clone() for key, value in own.projection.items()}
    projection["proj.weight"] = torch.cat([projection["proj.weight"]] * 2, 1)
    scene.write_file(tmp_path, recognise(projection, own.layers))
    with pytest.raises(MethodUnusable, match=r"reads 48 numbers .* has 24"):
        read("ip_adapter", tmp_path, "base", encoder=folder / "clip")


def test_files_that_are_not_there_or_not_files_say_so(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="published at"):
        read("ip_adapter", folder, "absent")
    with pytest.raises(MethodUnusable, match=r"name the file in it \(ip-adapter-base.bin"):
        read("ip_adapter", folder, "base", source=folder)
    torn = tmp_path / "torn.bin"
    torn.write_bytes(b"no file")
    with pytest.raises(AdapterMismatch, match="torn"):
        read("ip_adapter", folder, "base", source=torn)


def test_another_networks_face_is_a_mixup(folder: Path) -> None:
    with pytest.raises(EmbeddingMixup, match=r"128 numbers.*faceid.*512"):
        read("faceid", folder, "faceid", references=(NARROW,))


def test_another_models_file_is_refused_when_it_is_built(
    folder: Path, tmp_path: Path, parts: Parts
) -> None:
    family = scene.load_family("stable_diffusion")
    assert parts.denoiser is not None
    sdxl = scene.build_parts("stable_diffusion", "sdxl")
    with pytest.raises(MethodUnusable, match=r"10 layers, this stable_diffusion has 11"):
        read("ip_adapter", folder, "base").build(family, sdxl)
    with pytest.raises(ValueError, match="loaded denoiser"):
        read("ip_adapter", folder, "base").build(family, Parts("sd15"))
    file = scene.build_file("faceid", family, parts.denoiser)
    for edit, words in (
        ({"1.to_k_ip.weight": torch.ones(24, 64), "1.to_v_ip.weight": torch.ones(24, 64)}, "24"),
        ({"0.to_q_lora.up.weight": torch.ones(5, 3)}, "5 outputs"),
    ):
        layers = {**file.layers, **file.loras, **edit}
        path = scene.write_file(tmp_path, recognise(file.projection, layers))
        with pytest.raises(MethodUnusable, match=words):
            read("faceid", folder, "faceid", source=path).build(family, parts)


def test_a_clip_without_a_mask_of_its_size_is_refused() -> None:
    family = scene.load_family("stable_diffusion")
    spec = scene.make_spec(family, "sd15", height=128, width=64)
    with pytest.raises(ValueError, match=r"1 frames, 128 x 64 pixels .* 1 x 64 x 64"):
        pick_mask(MASK, [spec])
    assert pick_mask({}, [spec]) is None
    loud = {(1, 128, 64): torch.full((1, 1, 1, 2, 2), 3.0)}
    assert torch.equal(pick_mask(loud, [spec]), torch.ones(1, 1, 2, 2))  # type: ignore[arg-type]


def test_the_shelf_says_where_each_runs() -> None:
    for name in ("ip_adapter", "faceid"):
        plugin = METHODS.load(name)
        assert not plugin.refuse(FAMILIES.load("wan"), "2.2-t2v-a14b")
        assert "qwen_image_21 2.1" in plugin.refuse(FAMILIES.load("qwen_image_21"), "2.1")
        assert plugin.options() is not None


def test_several_references_are_one_person(folder: Path, parts: Parts) -> None:
    reference, second = scene.make_reference(), scene.make_reference(1)

    def project(plugin: str, file: str, *references: Any, **options: Any) -> torch.Tensor:
        more = {"options": FaceIdOptions(**options)} if plugin == "faceid" else {}
        method: Any = read(plugin, folder, file, references=references, **more)
        tokens: torch.Tensor = method.tokens.tokens
        return tokens

    single, both = (
        project("ip_adapter", "base", reference),
        project("ip_adapter", "base", reference, second),
    )
    assert both.shape[1] == 2 * single.shape[1]
    assert torch.allclose(both[:, : single.shape[1]], single, atol=1e-6)
    face = project("faceid", "faceid", reference)
    assert torch.allclose(project("faceid", "faceid", reference, reference), face, atol=1e-5)
    mean = project("faceid", "faceid", reference, second)
    assert mean.shape == face.shape
    assert not torch.allclose(mean, face, atol=1e-3)
    joined = project("faceid", "faceid", reference, second, combination="join")
    assert torch.allclose(joined[:, :4], face, atol=1e-5)
    assert joined.shape[1] == 8
    first, later = (
        project("faceid", "faceid-plus", reference, kind=kind)
        for kind in ("faceid-plus", "faceid-plusv2")
    )
    assert not torch.allclose(first, later, atol=1e-3)
