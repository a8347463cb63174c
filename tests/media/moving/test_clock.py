"""Frames by their time stamps, whatever a header says of the rate."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from frisket.media.frames import decode, probe
from frisket.media.moving.clock import Clock, read_clock
from frisket.media.picks import resample

MS = Fraction(1, 1000)
# A phone in low light: 60 frames a second, then 6, in ms.
UNEVEN = [0, 17, 33, 50, 67, 83, 100, 117, 133, 150, 165, 182, 365, 533, 698, 867, 1033, 1200]


def latest(begins, end, target):
    """Brute force: the frame that a player shows at each sample, each frame once."""
    shown, sample = [], 0
    while Fraction(sample) / target < end:
        late = Fraction(1, 2000)
        began = [at for at, begin in enumerate(begins) if begin - late <= sample / Fraction(target)]
        if began[-1] not in shown:
            shown.append(began[-1])
        sample += 1
    return tuple(shown)


@given(
    steps=st.lists(st.integers(1, 400), min_size=4, max_size=40),
    target=st.sampled_from([2, 6, 8, 12, 16, 24, 30]),
)
def test_sample_j_is_the_latest_frame_begun_by_then(steps, target):
    stamps = [0]
    for step in steps:
        stamps.append(stamps[-1] + step)
    clock = read_clock(stamps, MS, 40)
    picks = clock.sample(target)
    assert picks[0] == 0
    assert list(picks) == sorted(set(picks))
    if clock.variable and not (clock.rate <= target * 1.01 and clock._even()):
        begins = [stamp * MS for stamp in stamps]
        assert picks == latest(begins, (stamps[-1] + 40) * MS, target)


@pytest.mark.parametrize(
    "rate", ["24000/1001", "24", "25", "30000/1001", "30", "60", "16", "100/7"]
)
@pytest.mark.parametrize("base", [MS, Fraction(1, 90_000), Fraction(1, 10**9)])
def test_a_constant_rate_is_known_through_rounding(rate, base):
    rate = Fraction(rate)
    stamps = [round(5000 + index / rate / base) for index in range(240)]
    clock = read_clock(stamps, base, 0, [rate])
    assert (clock.variable, clock.frames) == (False, 240)
    assert float(clock.rate) == pytest.approx(float(rate))
    for target in (8, 10, 16):
        assert clock.sample(target) == resample(240, float(rate), target)


def test_a_rate_that_no_header_tells_is_read_from_the_stamps():
    stamps = [round(index * 1000 / 30) for index in range(60)]
    assert read_clock(stamps, MS).rate == 30
    assert read_clock(stamps, MS, 0, [Fraction(1000)]).sample(10) == tuple(range(0, 60, 3))


def test_a_little_jitter_drops_nothing_at_the_own_rate():
    stamps = [round(index * 1000 / 30) + (index * 7 % 5) * 3 - 6 for index in range(60)]
    clock = read_clock(stamps, MS, 33)
    assert clock.variable
    assert clock.sample(30) == clock.sample(None) == tuple(range(60))
    assert len(clock.sample(15)) == pytest.approx(30, abs=1)


def test_stamps_that_are_missing_repeated_or_run_backwards():
    whole = [0, 33, 67, 100, 133, 167]
    assert read_clock([0, None, 67, 100, None, 167], MS).rate == 30
    assert read_clock([None, 33, 67, 100, 133, 167], MS).rate == pytest.approx(30, rel=0.01)
    assert read_clock([*whole, *whole], MS).begins()[6] == pytest.approx(0.2)  # two takes joined
    assert read_clock([0, 0, 100, 100, 200], MS, 100).sample(10) == (1, 3, 4)
    assert read_clock([None] * 5, MS, 0, [Fraction(25)]).rate == 25
    assert read_clock([7] * 5, MS).rate is None
    assert read_clock([None] * 5, MS).sample(8) == tuple(range(5))


def test_pauses_are_shortened_and_told():
    clock = read_clock([0, 2000, 4000, 4016, 4032, 4048], MS, 16)
    assert clock.sample(8) == (0, 1, 2)
    assert clock.measure_pauses(8) == pytest.approx(4.064 - 3 / 8)
    assert clock.measure_pauses(None) == 0


def test_a_stamp_far_away_costs_nothing():
    assert read_clock([0, 33, 10**15], MS).sample(30) == (0, 1, 2)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=9), st.booleans())
def test_a_clock_survives_the_index(steps, even):
    clock = Clock(len(steps), Fraction(25)) if even else read_clock(sorted(steps), MS, 5)
    assert Clock.parse(clock.dump()) == clock


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"bf": "2"}),
        ("a.mov", "prores_ks", {}),
        ("a.mkv", "ffv1", {}),
        ("a.webm", "libvpx", {}),
        ("a.webm", "libvpx-vp9", {}),
        ("a.ts", "libx264", {"bf": "2"}),
    ],
)
def test_variable_rates_in_every_container(tmp_path, shoot, numbered, name, codec, options):
    pixels = {"prores_ks": "yuv422p10le", "ffv1": "bgr0"}.get(codec, "yuv420p")
    path = shoot(
        tmp_path / name, numbered(18), UNEVEN, codec=codec, pixels=pixels, rate=60, **options
    )
    media = probe(path)
    assert (media.frames, media.remarks) == (18, ("variable frame rate",))
    assert media.times == pytest.approx([stamp / 1000 for stamp in UNEVEN], abs=0.001)
    picks = media.clock.sample(6)
    assert picks == (0, 10, 11, 12, 13, 14, 15, 16)[: len(picks)]
    levels = decode(path, picks).float().mean((1, 2, 3))
    assert (levels / 8).round().tolist() == list(picks)
    assert media.remarks_at(6) == media.remarks


def test_a_false_default_duration_is_not_believed(tmp_path, shoot, numbered):
    path = shoot(tmp_path / "a.mkv", numbered(18), UNEVEN, codec="ffv1", pixels="bgr0", rate=30)
    assert probe(path).clock.sample(6)[:4] == (0, 10, 11, 12)


@pytest.mark.parametrize("start", [-500, 0, 5000])
def test_time_starts_with_the_first_frame(tmp_path, shoot, numbered, start):
    stamps = [start + stamp for stamp in UNEVEN]
    path = shoot(tmp_path / "a.mkv", numbered(18), stamps, codec="ffv1", pixels="bgr0")
    assert probe(path).times[:3] == pytest.approx([0, 0.017, 0.033], abs=0.001)


LENGTHS = [100] * 5 + [500] * 4


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif"])
def test_animations_of_uneven_durations(tmp_path, suffix):
    pages = [Image.new("RGB", (16, 16), (20 * index,) * 3) for index in range(9)]
    path = tmp_path / f"a{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=LENGTHS)
    media = probe(path)
    assert media.clock.sample(2) == (0, 5, 6, 7, 8)
    assert media.clock.sample(None) == tuple(range(9))
    assert media.fps == pytest.approx(3.6, abs=0.01)


def test_animations_that_tell_little(tmp_path):
    pages = [Image.new("RGB", (16, 16), (20 * index,) * 3) for index in range(4)]
    for lengths, fps, ticks in ((0, None, ()), ([0, 200, 0, 200], 20 / 3, (0, 100, 300, 400))):
        pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:], duration=lengths)
        media = probe(tmp_path / "a.gif")
        assert media.fps == (fps if fps is None else pytest.approx(fps))
        assert media.clock.ticks == ticks
