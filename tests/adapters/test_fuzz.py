"""Damaged and hostile LoRA files: every command answers with a result or one sentence of ours."""

import json
import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from frisket.adapters import lora
from frisket.adapters.lora import LoraSpec
from frisket.cli.app import _is_meant
from frisket.families.models.wan.family import FAMILY as WAN
from frisket.recipes import convert

VARIANT = "2.1-t2v-1.3b"
BASE = json.dumps({"family": "wan", "variant": VARIANT, "source": ""})
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "C64",
          "F4", "F8_E8M0", "I16", "nonsense", "")  # fmt: skip
STRINGS = ("", "null", "[]", "{}", "1", "NaN", '{"kind": 1}', "[" * 90_000, "9" * 5000, '"\ud83d"',
           '{"kind": "lora", "rank": 4, "use_rslora": true}', '{"family": 3}', "\x1b[2J", "{" * 50,
           '{"kind": "lora", "rank": -1}', '{"kind": "lora", "rank": 1e999}', "[0, 1", "[1]",
           '{"transformer.r": "x"}', '{"transformer.lora_alpha": 1e400}', '{"family": "wan"}',
           '{"transformer.alpha_pattern": {"(": 1}}', '["a", "b"]', "true", '{"family": "\x1b"}',
           "[NaN, 1]", '{"kind": "lora", "rank": 2, "targets": [1]}')  # fmt: skip
ENTRIES = ("frisket.adapter", "frisket.base", "frisket.expert", "frisket.expert_range",
           "lora_adapter_metadata", "modelspec.architecture", "ss_base_model_version", "ss_steps",
           "modelspec.title", "frisket.made_from")  # fmt: skip
ENDS = (".alpha", ".dora_scale", ".diff", ".diff_b", ".hada_w1_a", ".lokr_w1", ".lokr_w2_a",
        ".lora_mid.weight", ".lora_A.weight", ".lora_down.weight", ".hada_t1", "", ".weight",
        ".lora_magnitude_vector", ".set_weight", ".lora_B.bias")  # fmt: skip


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> list[bytes]:
    """Whole files of every kind and format."""
    folder, made = tmp_path_factory.mktemp("seeds"), []
    for kind in ("lora", "dora", "loha", "lokr"):
        for form in ("comfyui", "kohya", "diffusers"):
            model = WAN.tiny(VARIANT).denoiser
            lora.attach(
                model, LoraSpec(kind, 2, 3.0, targets=("attn1.to_q", "ffn.net.0.proj")), seed=0
            )
            with torch.no_grad():
                for value in lora.trainable(model).values():
                    value.add_(0.1)
            said = {
                "frisket.base": BASE,
                "frisket.expert": "high",
                "frisket.expert_range": "[0, 1]",
            }
            lora.save(model, folder / "a.safetensors", said, names=WAN.names, form=form)
            made.append((folder / "a.safetensors").read_bytes())
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A denoiser's folder to merge into."""
    folder = tmp_path_factory.mktemp("model")
    WAN.tiny(VARIANT).denoiser.save_pretrained(folder)
    return folder


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def whole(header: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + body


def bytes_flipped(content: bytes, rng: random.Random) -> bytes:
    made = bytearray(content)
    for _ in range(rng.randint(1, 12)):
        made[rng.randrange(len(made))] = rng.randrange(256)
    return bytes(made)


def header_length(content: bytes, rng: random.Random) -> bytes:
    size = rng.choice([0, 1, 7, 2**31, 2**40, 2**63, 2**64 - 1, len(content), rng.randrange(5000)])
    return struct.pack("<Q", size) + content[8:]


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))] + bytes(rng.choice([0, 0, 9, 3000]))


def entry(content: bytes, rng: random.Random) -> bytes:
    """One tensor's dtype, shape, offsets or key."""
    header, body = parts(content)
    key = rng.choice([key for key in header if key != "__metadata__"])
    what = rng.randrange(7)
    if what == 0:
        header[key]["dtype"] = rng.choice(DTYPES)
    elif what == 1:
        shape = header[key]["shape"]
        header[key]["shape"] = rng.choice(
            [shape[::-1], [*shape, 1], [1, *shape], [], [0], [-1, 2], [2**62, 2], ["x"], [1.5],
             [int(np.prod(shape))], [*shape, 1, 1, 1, 1], None]
        )  # fmt: skip
    elif what == 2:
        start, end = header[key]["data_offsets"]
        header[key]["data_offsets"] = rng.choice(
            [[end, start], [start, end + 8], [-8, end], [start], [0, 0], [start + 4, end], "x"]
        )
    elif what == 3:
        header[key + rng.choice(["\n", "\x1b[2J", "x" * 600, "\ud83d", "é", "."])] = header.pop(key)
    elif what == 4:
        header[rng.choice(["a" + key, key.replace(".", "", 1), "", "lora_unet_x.alpha"])] = (
            header.pop(key)
        )
    elif what == 5:
        del header[key]
    else:
        header[key] = rng.choice([None, 3, [], {}, {"dtype": "F32"}])
    return whole(header, body)


def values(content: bytes, rng: random.Random) -> bytes:
    """One tensor's numbers or shape, in a file that is whole."""
    header, body = parts(content)
    metadata = header.pop("__metadata__")
    made = {}
    for key, said in header.items():
        start, end = said["data_offsets"]
        array = np.frombuffer(body[start:end], np.float32).reshape(said["shape"]).copy()
        made[key] = torch.from_numpy(array)
    key = rng.choice(list(made))
    value = made[key]
    what = rng.randrange(8)
    if what == 0:
        value.view(-1)[rng.randrange(value.numel())] = rng.choice([np.nan, np.inf, -np.inf, 3e38])
    elif what == 1:
        made[key] = value * rng.choice([0.0, 1e30, 1e-40])
    elif what == 2:
        kind = rng.choice([torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool,
                           torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64])  # fmt: skip
        made[key] = value.to(kind)
    elif what == 3:
        made[key] = value.reshape(-1)
    elif what == 4:
        made[key] = value.mT.contiguous() if value.ndim == 2 else value[None]
    elif what == 5:
        made[key] = (
            value[: rng.randrange(len(value) + 1)].clone() if value.ndim else value[None, None]
        )
    elif what == 6:
        base = key.split(".lora")[0].split(".hada")[0].split(".lokr")[0].removesuffix(".alpha")
        made[base + rng.choice(ENDS)] = torch.ones(rng.choice([(1,), (24, 1), (1, 24), (2, 2), ()]))
    else:
        made[key] = torch.cat([value, value]) if value.ndim else value.repeat(2)
    return save(made, metadata)


def metadata(content: bytes, rng: random.Random) -> bytes:
    header, body = parts(content)
    said = header["__metadata__"]
    whole_entries = {key: value for key, value in said.items() if value.startswith("{")}
    entries = {key: json.loads(value) for key, value in whole_entries.items()}
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(ENTRIES)
        if rng.random() < 0.3 and key in said:
            record = entries.get(key, {})
            field = rng.choice([*record, "later"])
            record[field] = rng.choice([None, -1, 0, "x", [], {}, True, 1e400, 10**400, 1e-320])
            said[key] = json.dumps(record)
        else:
            said[key] = rng.choice(STRINGS)
    if rng.random() < 0.1:
        header["__metadata__"] = rng.choice([None, [], {"a": 1}, {"a": None}, "x"])
    return whole(header, body)


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    bytes_flipped, header_length, cut, entry, entry, values, values, values, metadata, metadata,
)  # fmt: skip


def error_of(doing: Callable[[], Any]) -> Exception | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            doing()
    except Exception as error:
        return error
    return None


def answers(doing: Callable[[], Any], seed: int) -> bool:
    """Whether it comes to an end; else it says in a sentence of ours why not."""
    error = error_of(doing)
    if error is None:
        return True
    assert _is_meant(error), f"seed {seed}: {type(error).__name__}: {error}"
    assert 0 < len(str(error)) < 2000, f"seed {seed}: {len(str(error))} letters"
    assert "\x1b" not in str(error), f"seed {seed}"
    return False


def check(seed: int, seeds: list[bytes], model: Path, folder: Path) -> bool:
    """Whether the file was described; no outcome of any command on it is a surprise."""
    rng = random.Random(seed)
    content = rng.choice(MUTATIONS)(rng.choice(seeds), rng)
    file, good = folder / "bad.safetensors", folder / "good.safetensors"
    file.write_bytes(content)
    good.write_bytes(seeds[0])
    told = answers(lambda: convert.run([file], None), seed)
    out = folder / "out.safetensors"
    family = rng.choice(["", "wan"])
    doing = rng.randrange(6)
    if doing == 0:
        answers(
            lambda: convert.run([file], out, to=rng.choice(["kohya", "diffusers"]), family=family),
            seed,
        )
    elif doing == 1:
        answers(
            lambda: convert.run([file], out, rank=rng.choice([1, 3]), scale=0.5, family=family),
            seed,
        )
    elif doing == 2:
        answers(lambda: convert.run([good, file], out, average="0.5,0.5", family=family), seed)
    elif doing == 3:
        merged = folder / f"merged{seed}"
        answers(lambda: convert.run([file], merged, merge_into=model, family=family), seed)
    elif doing == 4:
        without = (rng.choice(["frisket.adapter", "*.alpha", "blocks.0", "frisket.*"]),)
        answers(lambda: convert.run([file], out, leave_out=without, family="wan"), seed)
    else:
        answers(lambda: lora.load(WAN.tiny(VARIANT).denoiser, file, names=WAN.names), seed)
    assert not any(folder.glob(".*partial*"))
    return told


def test_a_sample_of_damaged_files_is_answered(seeds, model, tmp_path):
    told = [check(seed, seeds, model, tmp_path) for seed in range(100)]
    assert 10 < sum(told) < 90  # damage that is found, and damage that is none


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_damaged_files_are_answered(seeds, model, tmp_path, part):
    """2,100 more; a failure names its seed."""
    for seed in range(1000 + 210 * part, 1000 + 210 * (part + 1)):
        check(seed, seeds, model, tmp_path)
