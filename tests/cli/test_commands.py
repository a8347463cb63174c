"""Every command and every option of it, by name."""

import typer.main

from frisket.cli import app as app_module

COMMON = {"--set"}
COMMANDS = {  # a promise to scripts: change it knowingly, and say so in CHANGELOG.md
    "init": {"folder", "--output", "--family", "--variant", "--preset"},
    "explain": {"config", "--config", "--preset", "--output"} | COMMON,
    "doctor": {"config", "--config"} | COMMON,
    "prepare": {"config", "--config"} | COMMON,
    "inspect": {
        *("--config", "config", "--output", "--fix", "--strict", "--vae", "--workers"),
        *("--only", "--plan"),
    }
    | COMMON,
    "studio": {"folder", "--port", "--browser", "--sam"},
    "serve": set(),
    "train": {"config", "--config", "--steps", "--rank", "--lr", "--batch"} | COMMON,
    "generate": {
        "--config",
        *(
            "config",
            "--prompt",
            "--prompt-file",
            "--lora",
            "--strength",
            "--lora-mask",
            "--base",
            "--compare",
        ),
        *("--seed", "--negative", "--steps", "--guidance", "--width", "--height", "--frames"),
        *("--batch", "--output", "--image", "--trigger", "--fuse", "--fuse-with-loras"),
        *("--fuse-bias", "--fuse-step", "--fuse-layer", "--fuse-background"),
        *("--method", "--method-source", "--method-scale", "--method-mask", "--method-strict"),
        *("--method-option", "--face", "--like", "--pose", "--encoder", "--embedder"),
        *("--embedder-source", "--detector", "--detector-source"),
        *("--control", "--control-net", "--control-scale", "--control-mask"),
    }
    | COMMON,
    "edit": {
        *("clip", "--mask", "--first", "--edited", "--output", "--caption", "--prompt", "--config"),
        *("--family", "--variant", "--source", "--revision", "--device", "--dtype", "--quantise"),
        *("--storage", "--checkpointing", "--swap-blocks", "--tile-vae", "--rank", "--lr"),
        *("--mask-shape", "--margin", "--boxes", "--loss-mask", "--frames", "--width", "--height"),
        *("--steps", "--appearance-steps", "--sample-only", "--negative", "--seed", "--guidance"),
        *("--sampling-steps", "--strength", "--composite", "--feather"),
    }
    | COMMON,
    "convert": {
        *("files", "--output", "--to", "--family", "--variant", "--rank", "--scale", "--average"),
        *("--exact", "--merge-into", "--extract", "--dtype", "--expert", "--drop-text"),
        "--drop-schedule",
    }
    | {"--leave-out"},
    "quickstart": {"--output", "--seeds", "--full", "--workers"} | COMMON,
    "schema": {"--output", "--reference"},
    "families": {"name", "--reference"},
    "methods": {"--family", "--json", "--reference"},
    "name-norms": {"config", "--config", "--names", "--source"} | COMMON,
    "evaluate": {
        *("runs", "--clips", "--masks", "--prompt", "--unrelated", "--image", "--seeds", "--draws"),
        *("--features", "--faces", "--no-samples", "--strict", "--output"),
        "--phrase",
    }
    | COMMON,
    "attend": {
        *("source", "--config", "--phrase", "--prompt", "--seed", "--clips", "--limit", "--layer"),
        *("--form", "--softmax", "--t", "--draws", "--lora", "--strength", "--base", "--output"),
    }
    | COMMON,
    "import": {
        "sources",
        "--command",
        "--output",
        "--from",
        "--family",
        "--variant",
        "--reference",
    },
    "pack": {
        *("source", "--output", "--to", "--from", "--name", "--image", "--caption", "--mask"),
        *("--follow-links", "--shard"),
    },
    "control list": set(),
    "control make": {
        "folder",
        *("--kind", "--output", "--source", "--detector", "--option", "--device"),
        *("--overwrite", "--dry-run"),
    },
    "masks make": {
        *("folder", "--backend", "--phrases", "--from-captions", "--captions", "--trigger"),
        *("--captioner", "--class-word", "--rules", "--everything-but", "--parts", "--neck"),
        *("--keep", "--near", "--noun-phrases"),
        *("--attention-family", "--attention-variant", "--attention-prompt", "--attention-layer"),
        *("--attention-t", "--attention-draws", "--attention-form", "--attention-softmax"),
        *("--like", "--alike", "--source", "--threshold", "--segmenter", "--people", "--tracker"),
        "--detector",
        *("--combine", "--longest", "--device", "--dtype", "--batch", "--cut", "--loosen"),
        *("--refine", "--fill-holes", "--largest", "--min-area", "--grow", "--feather", "--every"),
        *("--window", "--smooth", "--radius", "--gap", "--output", "--beside", "--soft", "--brush"),
        *("--overwrite", "--again", "--stability", "--review", "--limit", "--dry-run", "--workers"),
        *("--config", "--only"),
    }
    | COMMON,
    "masks track": {
        *("clip", "--from", "--to", "--key", "--masks", "--clips", "--tracker", "--source"),
        "--device",
    },
    "masks review": {"folder", "--output", "--beside", "--below", "--page"},
    "masks point": {
        *("clip", "--at", "--not", "--box", "--text", "--region", "--mode", "--candidate"),
        *("--backend", "--source", "--device", "--clips", "--output", "--beside"),
    },
    "masks accept": {"folder", "names", "--above", "--undo", "--output", "--beside"},
    "masks reject": {"folder", "names", "--above", "--undo", "--output", "--beside"},
    "masks backends": set(),
    "masks rules": {"--output"},
    "masks eval": {
        *("--pred", "--gt", "--clips", "--json", "--legend-pred", "--legend-gt", "--levels"),
        "--merge",
    },
    "masks export": {
        *("folder", "--to", "--output", "--masks", "--config", "--regions", "--weights"),
        *("--levels", "--missing", "--overwrite"),
    },
    "masks import": {"source", "--from", "--clips", "--output", "--levels", "--overwrite"},
    "masks layouts": set(),
    "masks replay": {"folder", "--output", "--edits", "--overwrite", "--dry-run"},
}


def commands():
    """Every command by its words, those of groups too."""
    found = {}
    for name, command in typer.main.get_command(app_module.app).commands.items():
        below = getattr(command, "commands", None)
        found |= {f"{name} {n}": c for n, c in below.items()} if below else {name: command}
    return found


def test_commands_and_options():
    found = {
        name: {
            next((text for text in option.opts if text.startswith("--")), option.name)
            for option in command.params
        }
        for name, command in commands().items()
    }
    assert found == COMMANDS


def test_every_command_says_what_it_does():
    for name, command in commands().items():
        assert command.help, name
        for option in command.params:
            assert option.help, f"{name} {option.name}"
