"""What the denoiser sees besides text: reference pictures, and what a mask leaves free."""

from pathlib import Path

import torch

from frisket.data.loader import Loader
from frisket.data.prepare import prepare
from frisket.media.frames import write_image

TABLE = {"subject": 1.0, "background": 0.0}


def references(folder: Path, sizes: dict[int, tuple[int, int]]) -> Path:
    for number, (height, width) in sizes.items():
        grey = torch.full((height, width, 3), 10 * number, dtype=torch.uint8)
        (folder / "seen").mkdir(exist_ok=True)
        write_image(folder / "seen" / f"c{number:04d}.png", grey)
    return folder / "seen"


def test_pictures_come_with_their_clip_and_make_its_text_their_own(
    folder, clipset, cache, encoders, fresh
):
    seen = references(folder, {number: (8, 12) for number in range(6)})
    plan = clipset(folder, references=seen, dropout=0.5)
    done = prepare([plan], cache, encoders, regions=TABLE)
    assert encoders.embedded == 12  # one caption and one empty caption for each picture
    batch = Loader(done, batch=6, seed=0, prefetch=0).at(0)
    for row, name in enumerate(batch.names):
        assert (batch.conditioning["reference_0"][row] == 10 * int(name[1:])).all()
    again = fresh()
    prepare([plan], cache, again, regions=TABLE)
    assert again.encoded == again.embedded == 0
    write_image(seen / "c0003.png", torch.full((8, 12, 3), 99, dtype=torch.uint8))
    prepare([plan], cache, again, regions=TABLE)
    assert (again.encoded, again.embedded) == (1, 2)


def test_clips_with_pictures_of_other_sizes_share_no_batch(folder, clipset, cache, encoders):
    sizes = {number: (8, 12) if number % 2 else (12, 8) for number in range(6)}
    plan = clipset(folder, references=references(folder, sizes))
    loader = Loader(prepare([plan], cache, encoders, regions=TABLE), batch=3, seed=0, prefetch=0)
    for number in range(4):
        batch = loader.at(number)
        assert len({int(name[1:]) % 2 for name in batch.names}) == 1


def test_a_mask_as_condition_shows_the_rest_and_leaves_the_loss_alone(
    folder, clipset, cache, encoders, fresh
):
    for role in ("condition", "both"):
        done = prepare([clipset(folder, {"role": role})], cache, encoders, regions=TABLE)
        batch = Loader(done, batch=6, seed=0, prefetch=0).at(0)
        keep = batch.conditioning["keep"][:, 0]
        assert 0 < float(keep.mean()) < 1
        assert bool(batch.masked.all()) == (role == "both")
        # The regions on the latent grid are what is not shown.
        cells = torch.nn.functional.avg_pool2d(1 - keep, 2)
        torch.testing.assert_close(cells, batch.coverage[:, 0], atol=1e-5, rtol=0)
    again = fresh()
    prepare([clipset(folder, {"role": "condition"})], cache, again, regions=TABLE)
    assert again.encoded == 0
    prepare([clipset(folder)], cache, again, regions=TABLE)
    assert again.encoded == 6  # other latents entries: they hold no condition
