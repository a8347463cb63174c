"""What other programs read of our files, by what was recorded of their own code at real sizes.

`scripts/record_clients.py` says how it was recorded, `scripts/lora_table.py` how it is counted.
"""

import re
import sys
from pathlib import Path

import pytest

from frisket.adapters.forms import check_form, spelling_of
from frisket.adapters.key_map import Lexicon
from frisket.adapters.spec import AdapterMismatch
from frisket.families.base import FAMILIES, layer_names

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import lora_table as table  # noqa: E402

KINDS = ("lora", "dora", "loha", "lokr")
QUICK = ("FLUX.1, all", "FLUX.2 klein 4B", "HunyuanVideo-1.5", "Z-Image")
ROWS = [
    pytest.param(row, id=row.model, marks=() if row.said in QUICK else pytest.mark.slow)
    for row in table.ROWS
]


def names_of(row):
    family, variant = row.case.split("/")
    return layer_names(FAMILIES.load(family), variant)


@pytest.mark.parametrize("row", ROWS)
def test_the_page_says_what_each_client_reads(row):
    page = table.PAGE.read_text("utf-8")
    wanted = "run scripts/lora_table.py"
    assert table.line(row) in page, wanted
    assert all(line in page for line in (*table.heads(), table.sources())), wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", ROWS)
def test_comfyui_reads_every_key_we_write_for_it_as_strong_as_trained(row, kind):
    adapted, _ = table.layers_in(row.case)
    try:
        check_form(names_of(row), kind, "comfyui", adapted)
    except AdapterMismatch:
        assert row.case.startswith("hunyuan_video")  # whose fused layers have no slices there
        assert kind != "lora"
        return
    read = table.reading("comfyui", row.model, table.written(row.case, "comfyui", kind))
    assert (read.lost, read.ratio) == (0, pytest.approx(1))


@pytest.mark.parametrize("form", table.FORMS)
@pytest.mark.parametrize("row", ROWS)
def test_a_client_reads_plain_loras_whole_or_the_format_is_not_its_own(row, form):
    if form in names_of(row).unwritten:
        return
    for client in ("comfyui", "musubi", "sd-scripts"):
        if row.model not in table.record(client)["models"]:
            continue
        read = table.reading(client, row.model, table.written(row.case, form))
        assert read.lost in (0, read.keys) or (form, row.case[:16]) == (
            "diffusers", "stable_diffusion")  # fmt: skip
        if not read.lost:
            assert read.ratio == pytest.approx(1)
        elif client == "comfyui":
            assert form == "diffusers"


@pytest.mark.parametrize("row", ROWS)
def test_comfyui_knows_any_layer_that_its_files_can_be_written_for(row):
    """Whatever lora.targets names: a layer is written so that it is found, or refused."""
    names, known = names_of(row), table.accepted("comfyui", row.model)
    every = table.layers_in(row.case)[1]
    ends = {re.sub(r"\d+", "N", layer): layer for layer in every}  # the last block's
    firsts = {re.sub(r"\d+", "N", layer): layer for layer in reversed(every)}
    for layer in {*ends.values(), *firsts.values()}:
        for kind in KINDS:
            try:
                spelling = spelling_of("comfyui", {layer: kind}, names)
            except AdapterMismatch:
                continue
            if spelling == "sliced":
                key = f"transformer.{layer}"
            else:
                original = Lexicon(names).original(layer)[0]
                flat = f"{names.kohya}_{original.replace('.', '_')}"
                key = flat if spelling == "flat" else f"{names.dotted}.{original}"
            assert key in known


def test_the_records_say_where_they_are_from():
    for client in ("comfyui", "musubi", "sd-scripts"):
        known = table.record(client)
        assert re.fullmatch(r"[0-9a-f]{40}", known["commit"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", known["recorded"])
