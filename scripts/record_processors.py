"""Records what the stock processors of SAM 2, SAM 3 and Sapiens2 answer, for test_preprocess.py.

They load only beside torchvision, which Frisket does without, so this runs in an environment apart:

    python3 -m venv /tmp/stock
    /tmp/stock/bin/pip install torch==2.13.0 torchvision==0.28.0 transformers==5.23.0 pillow numpy
    /tmp/stock/bin/python scripts/record_processors.py

`processors.npz` beside the tests was recorded so, on a CPU. Only transforms and interpolations of
torchvision and torch are used; none of torchvision's own compiled operators is called.
"""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import transformers as tf
from PIL import Image

ROOT = Path(__file__).parents[1]
TO = ROOT / "tests/maskgen/fixtures/processors.npz"
SMALL = {"height": 64, "width": 48}
STEP = 32  # of the real sizes every 32nd pixel is kept


def without_operators():
    """Let torchvision import beside a torch it was not compiled for (a CPU one, say)."""
    register = torch.library.register_fake

    def lenient(name, *rest, **named):
        known = not isinstance(name, str) or hasattr(torch.ops.torchvision, name.split("::")[-1])
        return register(name, *rest, **named) if known else lambda function: function

    torch.library.register_fake = lenient


def odd_picture():
    """53 x 37: waves of three frequencies and noise, so that a wrong filter or axis shows."""
    y, x = np.mgrid[0:37, 0:53]
    waves = [np.sin(x / 3.0) + np.cos(y / 7.0), np.sin((x + 2 * y) / 5.0), np.cos(x * y / 90.0)]
    noise = np.random.RandomState(0).uniform(-0.5, 0.5, (37, 53, 3))
    return np.clip(127 + 60 * (np.stack(waves, -1) + noise), 0, 255).astype(np.uint8)


def blobs(count, size):
    """Logits of `count` smooth discs, none of them where another is."""
    y, x = np.mgrid[0:size, 0:size] / size
    discs = [
        0.3 - np.hypot(x - (i + 1) / (count + 1), y - 0.3 - 0.2 * i) * 1.5 for i in range(count)
    ]
    return torch.tensor(np.stack(discs) * 10, dtype=torch.float32)


def pictures(kept):
    shots = {
        "hopper": Image.open(ROOT / "examples/photos/clips/grace-hopper.jpg").convert("RGB"),
        "odd": Image.fromarray(odd_picture()),
    }
    kept["odd"] = np.asarray(shots["odd"])
    stock = {
        "sam2": tf.Sam2ImageProcessor,
        "sam3": tf.Sam3ImageProcessor,
        "sapiens2": tf.Sapiens2ImageProcessor,
    }
    for name, kind in stock.items():
        for shot, picture in shots.items():
            small = kind(size=SMALL)(picture, return_tensors="pt")["pixel_values"][0]
            real = kind()(picture, return_tensors="pt")["pixel_values"][0]
            kept[f"{name}/{shot}/small"] = small.numpy()
            kept[f"{name}/{shot}/real"] = real[:, ::STEP, ::STEP].numpy()
            kept[f"{name}/{shot}/size"] = np.array(real.shape[1:])
    frames = [np.asarray(shots["odd"]), np.asarray(shots["odd"])[::-1].copy()]
    video = tf.Sam2VideoVideoProcessor(size=SMALL)(videos=[frames], return_tensors="pt")
    kept["sam2_video/odd"] = video["pixel_values_videos"][0].numpy()


def prompts(kept):
    stock = tf.Sam2Processor(image_processor=tf.Sam2ImageProcessor())
    boxes, points = [[3.0, 5.0, 40.5, 30.25], [0.0, 0.0, 53.0, 37.0]], [[10.0, 20.0], [52.0, 1.5]]
    told = stock(
        images=Image.fromarray(odd_picture()),
        input_boxes=[boxes],
        input_points=[[[point] for point in points]],
        input_labels=[[[1], [0]]],
        return_tensors="pt",
    )
    kept["boxes"], kept["points"] = np.array(boxes), np.array(points)
    kept["boxes/scaled"] = told["input_boxes"][0].numpy()
    kept["points/scaled"] = told["input_points"][0, :, 0].numpy()


def masks(kept):
    logits = blobs(2, 16)
    kept["logits"] = logits.numpy()
    sam2 = tf.Sam2ImageProcessor()
    kept["sam2/masks"] = sam2.post_process_masks([logits[None]], [(37, 53)])[0][0].numpy()
    told = SimpleNamespace(
        pred_logits=torch.tensor([[2.0, -3.0, 0.5, 1.5]]),
        presence_logits=torch.tensor([[1.0]]),
        pred_boxes=torch.tensor([[[0.1, 0.2, 0.5, 0.9]] * 2 + [[0.0, 0.25, 1.0, 0.5]] * 2]),
        pred_masks=blobs(4, 16)[None],
    )
    found = tf.Sam3ImageProcessor().post_process_instance_segmentation(
        told, threshold=0.5, target_sizes=[(37, 53)]
    )[0]
    kept.update({f"sam3/told/{name}": value.numpy() for name, value in vars(told).items()})
    kept.update({f"sam3/found/{name}": value.numpy() for name, value in found.items()})


def video(kept):
    stock_video = import_module("transformers.models.sam3_video.processing_sam3_video")
    # Boxes are no part of what is recorded, and torchvision's are a compiled operator.
    stock_video.masks_to_boxes = lambda masks: torch.zeros(len(masks), 4)
    stock = object.__new__(stock_video.Sam3VideoProcessor)
    logits = blobs(4, 16) + 1.0  # so wide that they overlap
    logits[3] = -5.0
    session = SimpleNamespace(
        video_height=37,
        video_width=53,
        hotstart_removed_obj_ids={4},
        obj_id_to_prompt_id={0: 0, 1: 0, 2: 1, 3: 1, 4: 0, 5: 0},
        prompts={0: "face", 1: "hair"},
    )
    told = {
        "obj_id_to_mask": {n: logits[min(n, 3)][None] for n in range(6)},
        "obj_id_to_score": {n: 0.9 - n / 10 for n in range(6)},
        "obj_id_to_tracker_score": {0: 0.4, 1: 0.8, 2: 0.3, 3: 0.9, 4: 0.9, 5: 0.9},
        "suppressed_obj_ids": {5},
    }
    found = stock.postprocess_outputs(session, told)
    kept["sam3_video/logits"] = logits.numpy()
    kept["sam3_video/numbers"] = found["object_ids"].numpy()
    kept["sam3_video/masks"] = found["masks"].numpy()


def main():
    without_operators()
    kept = {}
    for record in (pictures, prompts, masks, video):
        record(kept)
    TO.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(TO, **kept)
    print(f"{TO}: {len(kept)} arrays, {TO.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
