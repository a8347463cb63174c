"""Clips frame by frame: read in order with flat memory, and label videos written the same way."""

import tracemalloc

import numpy as np
import pytest
import torch

from frisket.media.frames import (
    BadMedia,
    decode,
    decode_grey,
    decode_index,
    probe,
    stream,
    writing_labels,
)


def labels(count: int, height: int = 33, width: int = 47) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, height, width), generator=generator, dtype=torch.uint8)


def write(path, frames, **told):
    with writing_labels(path, 16, **told) as video:
        for frame in frames:
            video.add(frame)
    return path


def breaking(frame, error):
    yield frame
    raise error


def test_label_videos_come_back_bit_for_bit(tmp_path):
    frames = labels(9)
    path = write(tmp_path / "take 1: é.b.mkv", frames)
    assert torch.equal(torch.stack(list(stream(path, "index"))), frames.int())
    assert torch.equal(torch.stack(list(stream(path, "grey"))), frames / 255)
    assert torch.equal(decode_index(path, [8, 0]), frames[[8, 0]].int())
    assert torch.equal(decode_grey(path), frames / 255)
    media = probe(path)
    assert (media.frames, media.height, media.width, media.fps) == (9, 33, 47, 16)


def test_the_comment_is_kept_and_the_same_frames_make_the_same_file(tmp_path):
    import av

    paths = [write(tmp_path / f"{i}.mkv", labels(3), comment='{"face": 1}') for i in range(2)]
    with av.open(str(paths[0])) as container:
        assert container.metadata["COMMENT"] == '{"face": 1}'
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    one = labels(1)[0]
    with pytest.raises(ValueError, match=r"a\.mkv: 0 frames at 16 fps make no video"):
        write(tmp_path / "a.mkv", [])
    with pytest.raises(ValueError, match=r"a frame of 47 x 5 after frames of 47 x 33"):
        write(tmp_path / "a.mkv", [one, one[:5]])
    with pytest.raises(ValueError, match=r"is written as \.mkv, not '\.mp4'"):
        write(tmp_path / "a.mp4", [one])
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.mkv", breaking(one, KeyboardInterrupt))
    assert not list(tmp_path.iterdir())


def test_an_older_video_stays_until_the_new_one_is_whole(tmp_path):
    path = write(tmp_path / "a.mkv", labels(3))
    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        write(path, breaking(labels(1)[0], RuntimeError))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "codec", "pixels"), [("a.mp4", "libx264", "yuv420p"), ("a.avi", "mpeg4", "yuv420p")]
)
def test_a_video_streams_what_decode_gives(tmp_path, encode, numbered, name, codec, pixels):
    path = encode(tmp_path / name, numbered(9), codec, pixels, bf="2")
    assert torch.equal(torch.stack(list(stream(path))), decode(path))


def test_a_rotated_video_streams_upright(tmp_path, encode, gradient):
    path = encode(tmp_path / "a.mp4", gradient(3), rotation=90)
    assert torch.equal(torch.stack(list(stream(path))), decode(path))


def test_pictures_and_folders_of_frames_stream_too(tmp_path, picture, gradient):
    still = picture(tmp_path / "a.png")
    (only,) = stream(still)
    assert torch.equal(only, decode(still)[0])
    for index, frame in enumerate(gradient(11)):
        picture(tmp_path / "take" / f"{index}.png", frame)
    assert torch.equal(torch.stack(list(stream(tmp_path / "take"))), decode(tmp_path / "take"))
    picture(tmp_path / "take" / "11.png", np.zeros((5, 6, 3), np.uint8))
    with pytest.raises(BadMedia, match=r"take: frame 11 is 6 x 5, the frames before it are 48 x"):
        list(stream(tmp_path / "take"))


@pytest.mark.parametrize("share", [0.6, 0.8, 0.95])
@pytest.mark.parametrize(
    ("name", "codec", "pixels"), [("a.mkv", "ffv1", "bgr0"), ("a.mp4", "libx264", "yuv420p")]
)
def test_a_broken_tail_tells_how_many_frames_came_before(
    tmp_path, encode, gradient, name, codec, pixels, share
):
    path = encode(tmp_path / name, gradient(40), codec, pixels, g="5", bf="0")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    came = []
    with pytest.raises(BadMedia) as caught:
        came.extend(stream(path))
    assert 0 < len(came) < 40
    assert name in str(caught.value)
    assert f"({len(came)} frames were decoded before)" in str(caught.value)


def test_memory_is_flat_in_the_length(tmp_path):
    peaks = []
    for count in (4, 40):
        tracemalloc.start()
        with writing_labels(tmp_path / f"{count}.mkv", 16) as video:
            for _ in range(count):
                video.add(torch.zeros(128, 128, dtype=torch.uint8))
        for frame in stream(tmp_path / f"{count}.mkv", "index"):
            assert frame.shape == (128, 128)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * 128 * 128 * 4
