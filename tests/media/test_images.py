"""Single images: every mode, orientation and fault a data set brings."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.media.frames import (
    BadMedia,
    decode,
    decode_alpha,
    decode_grey,
    decode_index,
    probe,
    write_image,
)

DEEP = np.array([[0, 257 * 3, 257 * 128], [65535, 257 * 200, 257]], np.uint16)
TURNED = {1: lambda a: a, 3: lambda a: a[::-1, ::-1], 6: lambda a: np.rot90(a, -1)}
TURNED |= {8: np.rot90, 2: lambda a: a[:, ::-1], 5: lambda a: a.swapaxes(0, 1)}


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".webp", ".PNG"])
def test_lossless_formats_read_back_exactly(tmp_path, gradient, suffix):
    path = tmp_path / f"a{suffix}"
    frame = torch.from_numpy(gradient()[0])
    write_image(path, frame)
    assert torch.equal(decode(path), frame[None])
    media = probe(path)
    assert (media.frames, media.height, media.width) == (1, 32, 48)
    assert (media.fps, media.alpha, media.video) == (None, False, False)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".avif"])
def test_lossy_formats_read(tmp_path, picture, suffix):
    flat = np.full((16, 24, 3), (200, 60, 30), np.uint8)
    read = decode(picture(tmp_path / f"a{suffix}", flat, quality=95))
    assert (read.float() - torch.tensor([200.0, 60, 30])).abs().max() <= 4


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_exif_rotation_is_honoured_by_probe_and_by_every_decoder(
    tmp_path, picture, orientation, suffix
):
    grey = np.zeros((16, 32), np.uint8)
    grey[:8, :8] = 255  # top left
    if suffix == ".tif":
        options = {"tiffinfo": {274: orientation}}
    else:
        exif = Image.Exif()
        exif[274] = orientation
        options = {"exif": exif, "quality": 100} | ({"lossless": True} if "webp" in suffix else {})
    path = picture(tmp_path / f"a{suffix}", grey, **options)
    seen = TURNED[orientation](grey) > 128
    media = probe(path)
    assert (media.height, media.width) == seen.shape
    assert np.array_equal(decode(path)[0, :, :, 0].numpy() > 128, seen)
    assert np.array_equal(decode_grey(path)[0].numpy() > 0.5, seen)
    if suffix in (".png", ".tif"):
        assert np.array_equal(decode_index(path)[0].numpy() > 128, seen)


def test_exif_behind_the_pixels_of_a_png_is_found(tmp_path, picture):
    exif = Image.Exif()
    exif[274] = 6
    path = picture(tmp_path / "a.png", np.zeros((4, 8), np.uint8), exif=exif)
    raw = path.read_bytes()
    start, pixels, end = (raw.index(name) - 4 for name in (b"eXIf", b"IDAT", b"IEND"))
    assert start < pixels
    path.write_bytes(raw[:start] + raw[pixels:end] + raw[start:pixels] + raw[end:])
    assert (probe(path).height, probe(path).width) == decode(path).shape[1:3] == (8, 4)


def test_exif_rotation_of_alpha(tmp_path, picture):
    rgba = np.zeros((4, 8, 4), np.uint8)
    rgba[0, 0, 3] = 255
    exif = Image.Exif()
    exif[274] = 6
    path = picture(tmp_path / "a.png", rgba, exif=exif)
    assert decode_alpha(path)[0].nonzero().tolist() == [[0, 3]]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, picture, suffix):
    path = picture(tmp_path / f"a{suffix}", DEEP)
    assert decode(path)[0, :, :, 0].tolist() == [[0, 3, 128], [255, 200, 1]]
    expected = torch.from_numpy(DEEP.astype(np.float32) / 65535)
    torch.testing.assert_close(decode_grey(path)[0], expected)
    assert np.array_equal(decode_index(path)[0].numpy(), DEEP)


def test_32_bit_and_float_images(tmp_path, picture):
    path = picture(tmp_path / "i.tif", DEEP.astype(np.int32))
    assert decode(path)[0, :, :, 0].tolist() == [[0, 3, 128], [255, 200, 1]]
    path = picture(tmp_path / "f.tif", np.array([[0.0, 0.5, 1.0]], np.float32))
    assert decode_grey(path)[0].tolist() == [[0, 0.5, 1]]
    path = picture(tmp_path / "hdr.tif", np.array([[0.0, 7.5]], np.float32))
    with pytest.raises(BadMedia, match=r"hdr.tif: pixel values from 0 to 7.5, where 0 to 1 is"):
        decode(path)


def test_cmyk_and_palette_and_one_bit_images_are_converted(tmp_path, picture):
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    cmyk = decode(picture(tmp_path / "a.jpg", red.convert("CMYK"), quality=100))
    assert cmyk.shape == (1, 8, 8, 3)
    assert (cmyk[0, 4, 4].float() - torch.tensor([255.0, 0, 0])).abs().max() <= 8
    palette = decode(picture(tmp_path / "b.png", red.quantize(4)))
    assert palette[0, 0, 0].tolist() == [255, 0, 0]
    bits = picture(tmp_path / "c.png", np.array([[True, False]]))
    assert decode_grey(bits)[0].tolist() == [[1, 0]]


def test_palette_transparency_counts_as_alpha(tmp_path, picture):
    indices = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    indices.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    path = picture(tmp_path / "a.png", indices, transparency=1)
    assert probe(path).alpha
    assert decode_alpha(path)[0].tolist() == [[1, 0, 1]]
    assert decode_index(path)[0].tolist() == [[0, 1, 2]]
    assert not probe(picture(tmp_path / "b.png", indices)).alpha


def test_index_reads_labels_as_stored_even_where_palette_colours_repeat(tmp_path, picture):
    indices = Image.frombytes("P", (4, 1), bytes([7, 3, 0, 3]))
    indices.putpalette([10, 10, 10] * 8)
    assert decode_index(picture(tmp_path / "a.png", indices))[0].tolist() == [[7, 3, 0, 3]]
    grey = picture(tmp_path / "g.png", np.array([[0, 1, 2, 255]], np.uint8))
    assert decode_index(grey)[0].tolist() == [[0, 1, 2, 255]]
    rgb = picture(tmp_path / "rgb.png", np.full((1, 2, 3), 5, np.uint8))
    assert decode_index(rgb)[0].tolist() == [[5, 5]]


def test_index_refuses_colours_and_lossy_files(tmp_path, picture):
    with pytest.raises(BadMedia, match=r"a\.png: holds colours .* `legend` RGB colours"):
        decode_index(picture(tmp_path / "a.png"))
    grey = np.zeros((8, 8), np.uint8)
    with pytest.raises(BadMedia, match=r"a\.jpg: a label map as JPEG.*save it as PNG"):
        decode_index(picture(tmp_path / "a.jpg", grey))


def test_r_channel_is_never_silently_read_as_the_mask(tmp_path, picture):
    # kohya, diffusion-pipe and SimpleTuner read R of a coloured mask and say nothing.
    face_blue_hair_red = np.zeros((8, 8, 3), np.uint8)
    face_blue_hair_red[:4, :, 2] = 255
    face_blue_hair_red[4:, :, 0] = 255
    path = picture(tmp_path / "face hair.png", face_blue_hair_red)
    with pytest.raises(BadMedia) as error:
        decode_grey(path)
    assert str(error.value) == (
        f"{path}: its colour channels differ by up to 255 levels, so it is no grey mask, and the R"
        " channel is not assumed; save it as greyscale, or give masks a `legend` of region = colour"
    )


def test_off_by_one_colour_is_refused_in_png_and_passes_in_jpeg(tmp_path, picture):
    mask = np.zeros((16, 16, 3), np.uint8)
    mask[8:] = 255
    assert decode_grey(picture(tmp_path / "a.png", mask)).unique().tolist() == [0, 1]
    assert decode_grey(picture(tmp_path / "a.jpg", mask, quality=90)).unique().tolist() == [0, 1]
    mask[0, 0, 1] = 1
    with pytest.raises(BadMedia, match="differ by up to 1 levels"):
        decode_grey(picture(tmp_path / "b.png", mask))


def test_lossy_masks_have_exact_black_and_white(tmp_path, picture):
    y, x = np.mgrid[:64, :64]
    disc = (((y - 32) ** 2 + (x - 32) ** 2 < 300) * 255).astype(np.uint8)
    read = decode_grey(picture(tmp_path / "a.jpg", disc, quality=92))[0]
    assert read[0, 0] == 0
    assert read[32, 32] == 1
    assert (read[:8] == 0).all()


def test_a_grey_mask_with_transparency_is_refused_and_an_opaque_one_read(tmp_path, picture):
    mask = np.full((4, 4, 4), 255, np.uint8)
    assert decode_grey(picture(tmp_path / "a.png", mask)).unique().tolist() == [1]
    mask[0, 0, 3] = 0
    with pytest.raises(BadMedia, match=r"b\.png: a grey mask with transparency .*flatten it"):
        decode_grey(picture(tmp_path / "b.png", mask))


def test_alpha_is_straight_and_missing_alpha_is_an_error(tmp_path, picture):
    rgba = np.full((2, 2, 4), 200, np.uint8)
    rgba[..., 3] = [[0, 51], [102, 255]]
    path = picture(tmp_path / "a.png", rgba)
    assert (decode(path) == 200).all()
    torch.testing.assert_close(decode_alpha(path)[0], torch.tensor([[0, 0.2], [0.4, 1]]))
    with pytest.raises(BadMedia, match=r"b\.png: has no alpha channel \(mode RGB\)"):
        decode_alpha(picture(tmp_path / "b.png"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif", ".gif", ".avif"])
def test_truncated_images_name_the_file_and_the_fix(tmp_path, picture, suffix):
    path = picture(tmp_path / f"cut{suffix}", np.random.randint(0, 256, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadMedia, match=rf"^{re.escape(str(path))}: .*(copy it again|re-export)"):
        decode(path)


def test_files_that_are_no_images(tmp_path):
    (empty := tmp_path / "empty.png").touch()
    with pytest.raises(BadMedia, match=r"empty\.png: the file is empty \(0 bytes\); copy it again"):
        probe(empty)
    (text := tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(BadMedia, match=r"text\.jpg: not an image Pillow knows; re-export it"):
        probe(text)
    with pytest.raises(BadMedia, match=r"none\.png: there is no such file"):
        decode(tmp_path / "none.png")
    with pytest.raises(BadMedia, match=r"a\.psd: \.psd is not an image or video suffix; known"):
        decode(tmp_path / "a.psd")


def test_write_image_leaves_nothing_behind_when_it_fails(tmp_path):
    frame = torch.zeros(4, 4, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"a\.psd: no image writer for '\.psd'; use \.png"):
        write_image(tmp_path / "a.psd", frame)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/a\.png: its folder cannot be made"):
        write_image(tmp_path / "file" / "a.png", frame)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    write_image(tmp_path / ("long" * 60 + ".png"), frame)
