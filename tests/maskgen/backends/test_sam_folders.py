"""A wrong folder is refused in words: what is missing, and where."""

import shutil

import pytest
from tests.maskgen.tiny import BUILDS

from frisket.maskgen.backends import sam2, sam2_video, sam3, sam3_video
from frisket.maskgen.base import CONTRACTS, MaskWeightsNotFound, ModelSource

BACKENDS = {
    "sam2": sam2.BACKEND,
    "sam2_video": sam2_video.BACKEND,
    "sam3": sam3.BACKEND,
    "sam3_video": sam3_video.BACKEND,
}


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    return {name: BUILDS[name](tmp_path_factory.mktemp(name)) for name in BACKENDS}


@pytest.mark.parametrize("name", BACKENDS)
def test_every_role_it_names_is_fulfilled(name, builds):
    loaded = BACKENDS[name].load(ModelSource(path=str(builds[name])))
    assert all(isinstance(loaded, CONTRACTS[role]) for role in BACKENDS[name].roles)


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors", "preprocessor_config.json"])
@pytest.mark.parametrize("name", BACKENDS)
def test_a_folder_that_lacks_a_file_is_told_which(name, lost, builds, tmp_path):
    folder = shutil.copytree(builds[name], tmp_path / "copy")
    (folder / lost).unlink()
    with pytest.raises(MaskWeightsNotFound) as refused:
        BACKENDS[name].load(ModelSource(path=str(folder)))
    assert str(folder) in str(refused.value)
    assert lost in str(refused.value)


@pytest.mark.parametrize("name", ["sam3", "sam3_video"])
def test_a_folder_without_its_tokenizer_is_told_so(name, builds, tmp_path):
    folder = shutil.copytree(builds[name], tmp_path / "copy")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MaskWeightsNotFound, match=r"lacks tokenizer\.json"):
        BACKENDS[name].load(ModelSource(path=str(folder)))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("sam2", "sam3"),
        ("sam2_video", "sam2"),
        ("sam2_video", "sam3_video"),
        ("sam3_video", "sam3"),
        ("sam3", "sam2"),
    ],
)
def test_the_weights_of_another_model_are_refused(name, other, builds, tmp_path):
    folder = shutil.copytree(builds[other], tmp_path / "copy")
    if not (folder / "tokenizer.json").exists():
        shutil.copy(builds["sam3"] / "tokenizer.json", folder)
    with pytest.raises(MaskWeightsNotFound, match=str(folder)):
        BACKENDS[name].load(ModelSource(path=str(folder)))
