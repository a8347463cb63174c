"""Cache keys change only for files whose colours are converted."""

from PIL import Image

from frisket.data.cached.colours import hash_content
from frisket.data.cached.index import Index
from frisket.media.stills.profiles import CURVES, PRIMARIES, matrix_profile


def test_only_converted_pictures_have_another_content(tmp_path):
    image = Image.new("RGB", (8, 8), (200, 40, 40))
    image.save(tmp_path / "plain.png")
    srgb = matrix_profile(PRIMARIES[1], CURVES[13], "sRGB")
    image.save(tmp_path / "srgb.png", icc_profile=srgb)
    wide = matrix_profile(PRIMARIES[12], CURVES[13], "P3")
    image.save(tmp_path / "wide.png", icc_profile=wide)
    (tmp_path / "frames").mkdir()
    image.save(tmp_path / "frames" / "0.png", icc_profile=wide)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with Index(tmp_path) as index:
        for name in ("plain.png", "srgb.png", "broken.png"):
            assert hash_content(index, tmp_path / name) == index.content(tmp_path / name)
        for name in ("wide.png", "frames"):
            own = index.content(tmp_path / name)
            first = hash_content(index, tmp_path / name)
            assert first.startswith(f"{own}|srgb")
            assert hash_content(index, tmp_path / name) == first
