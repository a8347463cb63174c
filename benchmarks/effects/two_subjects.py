"""Two subjects on one picture: adapters trained apart on one base, then asked for together."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.effects.cells import Cell, Scores, run_cell
from benchmarks.effects.methods import METHODS, WORDS, Method, sample_pictures
from benchmarks.effects.one_subject import STEPS, SWAP
from benchmarks.effects.pair_base import make_pair_base
from numpy.typing import NDArray

from frisket.config.load import load
from frisket.disk.atomic import replacing
from frisket.media.frames import write_image
from frisket.pocket.judge import AGREES, MATCH_DB, find_creature, measure_backgrounds
from frisket.pocket.pairs import (
    PairScene,
    count_verdicts,
    find_backgrounds,
    generate_pair,
    judge_pairs,
    judge_shapes,
)
from frisket.pocket.world import SIZE, draw, random_creature
from frisket.recipes.quickstart import CONFIG, prepare_bank
from frisket.recipes.train import train
from frisket.runs import quickstart_data

PART, ALONE = "two", "alone"
CLIPS, ALONE_SEED = 8, 2000
COLUMNS = ("mixup", "right", "swapped", "twins", "one", "none", "blends", "found", "background")


def find_base(out: Path) -> Path:
    """The folder of the pairs' base, made when it is not there."""
    folder = out / "pair-base"
    if not (folder / "denoiser" / "config.json").is_file():
        make_pair_base(folder)
    return folder


def make_project(out: Path, word: str, seed: int) -> Path:
    """Eight square pictures of one creature, masks, and the quick start's config on that base."""
    folder = out / PART / f"{word}-{seed}"
    path = folder / "frisket.toml"
    if path.is_file():
        return path
    rng = np.random.RandomState(177 + seed + 1000 * WORDS.index(word))
    for index in range(CLIPS):
        picture, planes = draw(random_creature(rng, word=word))
        cover = np.clip(sum(planes.values()), 0, 1)
        grey = np.repeat((cover * 255).round().astype(np.uint8)[..., None], 3, axis=-1)
        write_image(folder / "clips" / f"{index}.png", torch.from_numpy(picture))
        write_image(folder / "masks" / f"{index}.png", torch.from_numpy(grey))
        with replacing(folder / "clips" / f"{index}.txt") as draft:
            draft.write_text(f"{word}\n", encoding="utf-8")
    bank, _ = quickstart_data.backgrounds()
    prompts = "\n".join(f'  "{background.words}",' for background in bank)
    text = CONFIG.format(prompts=prompts, seed=seed).replace(
        'family = "pocket"\n', f'family = "pocket"\nsource = {json.dumps(str(find_base(out)))}\n'
    )
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


def train_adapter(out: Path, word: str, seed: int, kind: str, extra: tuple[str, ...]) -> Path:
    """The file of one creature's adapter of one kind ("lora", "tara"), trained when not there."""
    path = make_project(out, word, seed)
    own = (setting.replace("WORD", word) for setting in extra)
    settings = (STEPS, f"run.output={json.dumps(kind)}", *SWAP, *own)
    record = path.parent / f"{kind}.txt"
    if not record.is_file():
        config = load(path, settings)
        prepare_bank(config, lambda *_: None)
        lora = train(config).lora
        with replacing(record) as draft:
            draft.write_text(str(lora.relative_to(path.parent)), encoding="utf-8")
    return path.parent / record.read_text(encoding="utf-8")


def run(out: Path, name: str, seed: int) -> Cell:
    """Train both adapters at `seed` as the method wants them, sample both, and judge."""
    method = METHODS[name]

    def work() -> tuple[Scores, NDArray[np.uint8]]:
        files = [train_adapter(out, word, seed, method.kind, method.settings) for word in WORDS]
        config = load(make_project(out, WORDS[0], seed), SWAP)
        _, fresh = quickstart_data.backgrounds()
        prompts = [f"{' and '.join(WORDS)} on {background.words}" for background in fresh]
        pictures = sample_pictures(config, out / PART / f"{name}-{seed}", prompts, files, method)
        scores = count_verdicts(judge_pairs(pictures))
        return scores | {"background": find_backgrounds(pictures, fresh).mean()}, pictures

    return run_cell(out, PART, name, seed, (STEPS, *SWAP, *method.settings), work)


def run_alone(out: Path, kind: str, word: str, seed: int) -> Cell:
    """One adapter alone on square pictures: is its creature learnt at all?

    Share found (creature and prompted background), and the creature's mean PSNR in dB.
    """
    trained = next(method for method in METHODS.values() if method.kind == kind)
    fuse = {"method": "tara", "triggers": (word,)} if kind == "tara" else {}
    method = Method(kind, trained.settings, fuse=fuse)

    def work() -> tuple[Scores, NDArray[np.uint8]]:
        file = train_adapter(out, word, seed, kind, method.settings)
        config = load(make_project(out, word, seed), SWAP)
        _, fresh = quickstart_data.backgrounds()
        prompts = [f"{word} on {background.words}" for background in fresh]
        folder = out / PART / f"alone-{kind}-{word}-{seed}"
        pictures = sample_pictures(
            config, folder, prompts, (file,), method, width=SIZE, seed=ALONE_SEED
        )
        psnr, masks = find_creature(pictures, word)
        shares = measure_backgrounds(pictures, masks, fresh)["colours"]
        found = (psnr >= MATCH_DB) & (shares > AGREES)
        return {"found": found.mean(), "fidelity": psnr.mean()}, pictures

    settings = (STEPS, *SWAP, *method.settings)
    return run_cell(out, ALONE, f"{kind}-{word}", seed, settings, work)


def run_base(out: Path, count: int = 100) -> Cell:
    """What the pairs' base itself can do: captions of two shapes it has never seen."""

    def work() -> tuple[Scores, NDArray[np.uint8]]:
        rng, scenes = np.random.RandomState(20261129), list[PairScene]()
        while len(scenes) < count:
            pair = generate_pair(rng)
            if pair.held_out:
                scenes.append(pair)
        config: Any = load(make_project(out, WORDS[0], 0), SWAP)
        captions = [scene.caption for scene in scenes]
        pictures = sample_pictures(config, out / PART / "base", captions, (), Method())
        return judge_shapes(pictures, scenes), pictures[:32]

    return run_cell(out, PART, "base", 0, (), work)
