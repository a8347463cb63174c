"""The review page shows every clip once, the worst first, and no broken file stops it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.evaluation.contact_sheet import REGION_COLOURS
from frisket.maskgen.files.record import DetectionRecord, MaskRecord, ModelRecord, Stamp, save
from frisket.maskgen.files.store import MaskStore, extend_legend, write_labels, write_soft
from frisket.media.files import find
from frisket.media.frames import write_video, writing_labels
from frisket.pocket.world import Background, Scene, draw, frames_of
from frisket.recipes.masks import review as review_module
from frisket.recipes.masks.review import Reviewed, review

LEGEND = {"face": 1, "body": 2, "hair": 3}
DRAFT = ModelRecord("draft", code_licence="Apache-2.0")
PARSER = ModelRecord("sapiens", "models/sapiens", "ab12", "Apache-2.0", "CC BY-NC 4.0")


class Shelf:
    """A folder of clips and its mask folder, filled as a run would."""

    def __init__(self, root: Path) -> None:
        self.root, self.clips = root, root / "clips"
        self.place = MaskStore(root / "masks")
        self.legend = extend_legend(self.place.legend, LEGEND)

    def photo(self, name: str, side: int = 48) -> Path:
        path = self.clips / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.RandomState(len(name)).randint(0, 256, (side, side, 3)).astype(np.uint8)
        Image.fromarray(noise).save(path)
        return path

    def made(self, name: str, confidence: float | None = 0.9, **told: object) -> MaskRecord:
        """A clip with its label map (unless `masks=()`) and record."""
        clip = self.photo(name)
        mask = self.place.labels(name, video=False)
        if "masks" not in told:
            labels = torch.zeros(48, 48, dtype=torch.uint8)
            labels[:12], labels[12:24] = 1, 2
            write_labels(mask, labels, self.legend)
            told["masks"] = (Stamp.of(mask, self.place.below(mask)),)
            told.setdefault(
                "regions",
                {"face": DetectionRecord(0.25, 0.8, confidence), "body": DetectionRecord(0.25)},
            )
        record = MaskRecord(
            clip=Stamp.of(clip),
            frames=1,
            height=48,
            width=48,
            settings={},
            key="k",
            legend=self.legend,
            confidence=confidence,
            seconds=1.5,
            **{"status": "done", "models": (DRAFT,)} | told,
        )
        save(record, self.place.record(name))
        return record

    def video(self, name: str, frames: int = 24, **told: object) -> Path:
        """A pocket clip with its label video and record."""
        scene = Scene(
            Background("wall", "white", "white"), "circle", "red", 14.0, 16.0, 8.0, "rightward"
        )
        drawn = [draw(one, 64) for one in frames_of(scene, frames, 0.5)]
        clip = self.clips / f"{name}.mkv"
        clip.parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.from_numpy(np.stack([picture for picture, _ in drawn]))
        write_video(clip, pixels, 8.0, lossless=True)
        mask = self.place.labels(name, video=True)
        with writing_labels(mask, 8.0) as writer:
            for _, planes in drawn:
                writer.add(torch.from_numpy((planes["subject"] > 0.5).astype(np.uint8)))
        record = MaskRecord(
            clip=Stamp.of(clip),
            frames=frames,
            height=64,
            width=64,
            settings={},
            key="k",
            masks=(Stamp.of(mask, self.place.below(mask)),),
            regions={"face": DetectionRecord(0.05, None, 0.3)},
            **{"status": "done", "confidence": 0.3} | told,
        )
        save(record, self.place.record(name))
        return mask

    def review(self, **options: object) -> Reviewed:
        there = find(self.clips, masks="none", folders={})
        return review(there.clips, self.place, self.root / "out", **options)

    @property
    def page(self) -> str:
        return (self.root / "out" / "index.html").read_text(encoding="utf-8")

    @property
    def listed(self) -> dict:
        return json.loads((self.root / "out" / "review.json").read_text(encoding="utf-8"))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def full(shelf: Shelf) -> Shelf:
    """One clip of every kind; names tell nothing of the order they belong in."""
    shelf.made("a-good", 0.95, models=(DRAFT, PARSER))
    notes = ("face: it touches 60% of the picture's border",)
    shelf.made("b-weak", 0.3, notes=notes)
    shelf.made("c-middling", 0.6)
    shelf.made("d-nothing", None, status="nothing", masks=())
    shelf.made("e-unsure", 0.2, status="unsure", notes=("two people overlap",), masks=())
    shelf.made("f-failed", None, status="failed", notes=("out of memory",), masks=())
    shelf.photo("g-unmade")
    shelf.made("h-by-hand")
    shelf.place.record("h-by-hand").unlink()
    shelf.made("i-changed")
    painted = torch.full((48, 48), 3, dtype=torch.uint8)
    write_labels(shelf.place.labels("i-changed", video=False), painted, shelf.legend)
    shelf.made("j-bad-record")
    shelf.place.record("j-bad-record").write_text("{")
    shelf.made("k-broken-clip")
    clip = shelf.clips / "k-broken-clip.png"
    clip.write_bytes(clip.read_bytes()[:900])
    return shelf


def test_the_worst_come_first(full: Shelf) -> None:
    reviewed = full.review()
    names = [one["name"] for one in full.listed["clips"]]
    assert set(names[:2]) == {"j-bad-record", "k-broken-clip"}
    assert names[2:] == [
        *("f-failed", "e-unsure", "d-nothing", "b-weak", "c-middling", "a-good"),
        *("g-unmade", "h-by-hand", "i-changed"),
    ]
    assert reviewed.clips == 11
    assert reviewed.counts == dict(
        broken=2, failed=1, unsure=1, nothing=1, done=3, unmade=1, hand=2
    )
    assert [one["name"] for one in full.listed["look"]] == list(reviewed.look)
    assert next(iter(full.listed)) == "look"
    places = [full.page.index(f">{name}</div>") for name in names]
    assert places == sorted(places)


def test_reasons_are_told_in_plain_words(full: Shelf) -> None:
    look = full.review().look
    assert {"a-good", "c-middling", "h-by-hand", "i-changed"}.isdisjoint(look)
    assert look["b-weak"][:2] == (
        "its confidence 0.30 is below 0.5",
        "face: it touches 60% of the picture's border",
    )
    assert look["e-unsure"] == ("two people overlap",)
    assert look["f-failed"] == ("out of memory",)
    assert look["d-nothing"] == ("no region was found",)
    assert "all of it teaches" in look["g-unmade"][0]
    assert "j-bad-record.json: a record that is not JSON" in look["j-bad-record"][0]
    assert "k-broken-clip.png" in look["k-broken-clip"][-1]
    for reasons in look.values():
        for reason in reasons:
            assert reason.replace("'", "&#39;") in full.page


def test_the_threshold_is_the_callers(full: Shelf) -> None:
    assert "c-middling" in full.review(below=0.7).look
    assert "b-weak" not in full.review(below=0.1).look


def test_hand_masks_are_shown_alike(full: Shelf) -> None:
    full.review()
    rows = {one["name"]: one for one in full.listed["clips"]}
    assert rows["h-by-hand"]["status"] == rows["i-changed"]["status"] == "hand"
    assert rows["i-changed"]["regions"]["hair"]["share"] == 1
    assert rows["i-changed"]["notes"] == ["changed by hand after it was made"]
    for name in ("h-by-hand", "a-good"):
        assert f'alt="regions of {name}"' in full.page
    assert full.page.count("by hand</span>") == 3  # in the verdict, and at either clip
    assert 'alt="regions of g-unmade"' not in full.page


def test_the_page_stands_alone_and_names_the_licences(full: Shelf) -> None:
    full.review()
    assert full.page.rstrip().endswith("</html>")
    assert "http://" not in full.page
    assert "https://" not in full.page
    assert "CC BY-NC 4.0" in full.page
    assert '<div class="controls" hidden>' in full.page  # without JS nothing promises to filter
    with Image.open(full.root / "out" / "contact-sheet.png") as sheet:
        assert sheet.width > 1500
    assert not list((full.root / "out").glob(".*"))
    assert {"name": "draft", "clips": 7}.items() <= full.listed["models"][0].items()


def test_a_video_is_shown_at_its_worst_frame(shelf: Shelf) -> None:
    shelf.video("roll", worst=5, notes=("the score fell to 0.11",))
    shelf.video("even")
    reviewed = shelf.review()
    rows = {one["name"]: one for one in shelf.listed["clips"]}
    assert rows["roll"]["worst"] == 5
    assert rows["even"]["worst"] is None
    assert "clip, frame 5<" in shelf.page
    assert "film strip of roll" in shelf.page
    assert "64 x 64, 24 frames" in shelf.page
    assert "the score fell to 0.11" in reviewed.look["roll"]


def test_a_video_that_fits_its_clip_no_more_is_shown_without_its_mask(shelf: Shelf) -> None:
    mask = shelf.video("roll")
    shelf.place.record("roll").unlink()
    with writing_labels(mask, 8.0) as writer:
        for _ in range(7):
            writer.add(torch.ones(64, 64, dtype=torch.uint8))
    reviewed = shelf.review()
    assert reviewed.counts == {"broken": 1}
    assert "has 7 frames but its clip" in reviewed.look["roll"][0]
    assert 'alt="clip of roll"' in shelf.page
    assert 'alt="regions of roll"' not in shelf.page


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: Image.new("L", (20, 20), 1).save(path), "is 20 x 20, its clip"),
        (lambda path: Image.new("L", (48, 48), 9).save(path), "holds the index 9"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "broken or cut short"),
    ],
)
def test_a_hand_mask_that_cannot_be_read_says_why(shelf: Shelf, damage, said: str) -> None:
    shelf.made("a")
    shelf.made("b")
    shelf.place.record("a").unlink()
    damage(shelf.place.labels("a", video=False))
    reviewed = shelf.review()
    assert reviewed.counts == {"broken": 1, "done": 1}
    assert said in reviewed.look["a"][0]


def test_two_masks_of_one_clip_are_named(shelf: Shelf) -> None:
    shelf.made("a")
    Image.new("L", (48, 48)).save(shelf.place.folder / "a.webp", lossless=True)
    reviewed = shelf.review()
    assert reviewed.counts == {"broken": 1}
    assert "are both masks of" in reviewed.look["a"][0]


def test_a_clip_that_changed_under_its_mask_is_to_be_looked_at(shelf: Shelf) -> None:
    shelf.made("a")
    Image.new("RGB", (48, 48), "red").save(shelf.clips / "a.png")
    reviewed = shelf.review()
    assert reviewed.counts == {"done": 1}
    assert "changed since the mask was made" in reviewed.look["a"][0]


def test_grey_and_soft_masks_need_no_legend_and_no_label_map(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.photo("a")
    write_soft(shelf.place.soft("hair", "a", video=False), torch.full((48, 48), 0.5))
    shelf.review()
    (row,) = shelf.listed["clips"]
    assert row["regions"]["hair"]["share"] == pytest.approx(0.5, abs=0.01)
    shelf.place.soft("hair", "a", video=False).unlink()
    shelf.place.legend.unlink()
    Image.new("L", (48, 48), 255).save(shelf.place.folder / "a.png")
    shelf.review()
    (row,) = shelf.listed["clips"]
    assert (row["status"], row["regions"]["mask"]["share"]) == ("hand", 1)


def test_a_damaged_legend_is_told_once_and_records_stand_in_for_it(shelf: Shelf) -> None:
    shelf.made("a")
    shelf.made("b")
    shelf.place.legend.write_text("[]")
    reviewed = shelf.review()
    assert "legend.json: its legend is a list" in reviewed.fault
    assert shelf.page.count("its legend is a list") == 1
    assert 'alt="regions of a"' in shelf.page


def test_regions_keep_the_colours_of_their_label_map(shelf: Shelf) -> None:
    shelf.photo("a")
    labels = torch.full((48, 48), 3, dtype=torch.uint8)
    mask = shelf.place.labels("a", video=False)
    write_labels(mask, labels, shelf.legend)
    shelf.review()
    hair = "rgb({}, {}, {})".format(*REGION_COLOURS[2])
    assert f'background: {hair}"></i>hair' in shelf.page


def test_only_the_worst_have_pictures(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_module, "PICTURED", 2)
    for number in range(5):
        shelf.made(f"clip-{number}", 0.9 - number / 10)
    seen = []
    shelf.review(progress=lambda *told: seen.append(told))
    assert shelf.page.count('alt="clip of ') == 2
    assert shelf.page.index('alt="clip of clip-4"') < shelf.page.index('alt="clip of clip-3"')
    assert "The other 3, without pictures" in shelf.page
    assert shelf.page.count('<tr data-level="') == 5
    assert seen[-1] == ("pictures", 2, 2)
    assert ("masks", 5, 5) in seen


def test_masks_beside_the_clips_are_reviewed_as_well(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.place = MaskStore(shelf.clips, beside=True)
    shelf.clips.mkdir()
    extend_legend(shelf.place.legend, LEGEND)
    shelf.made("a")
    assert shelf.review().counts == {"done": 1}
    assert 'alt="regions of a"' in shelf.page


def test_names_and_notes_cannot_break_the_page(shelf: Shelf) -> None:
    shelf.made("<b>&'ü", 0.1, notes=("<script>alert(1)</script>",))
    shelf.review()
    assert "<script>alert" not in shelf.page
    assert "&lt;b&gt;&amp;&#39;ü" in shelf.page


def test_a_sheet_of_an_earlier_run_does_not_stay(shelf: Shelf) -> None:
    shelf.made("a")
    shelf.review()
    (shelf.clips / "a.png").write_bytes(b"no picture")
    shelf.review()
    assert not (shelf.root / "out" / "contact-sheet.png").exists()
