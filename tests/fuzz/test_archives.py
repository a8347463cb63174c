"""Damaged and hostile tars and tables: read, or refused with their name; nothing is left behind."""

import gzip
import io
import tarfile
import tempfile
import tracemalloc

import pytest
from tests.fuzz.mutate import damage, damage_value, tried, written
from tests.fuzz.test_media import QUICK, slow

from frisket.data.format_base import FORMATS, BadSet, Columns, files_of, look
from frisket.media.paths import BadMedia, TwoFiles

MIB = 2**20
NAMES = (
    *("a/1.png", "a/1.txt", "a/1.json", "a/1.face.mask.png", "a/1.reference.0.png", "a/2.jpg"),
    *(
        "../x.png",
        "/etc/x.png",
        "./b.png",
        ".hidden.png",
        "a//b.png",
        "x" * 300 + ".png",
        "\udcff.png",
    ),
    *("a\0b.png", "a\nb.txt", "1", "", "é.png", "e\u0301.png", "%2e%2e.png", "C:\\x.png"),
)
TYPES = (
    *(tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE),
    *(tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE),
)


def go_through(name, path):
    """Read a set as `pack` does: looked at, then every byte."""
    packed = FORMATS.load(name).read(path, Columns())
    look(packed)
    for entry in packed.entries():
        for file in files_of(entry):
            with file.open() as stream:
                stream.read()


def built(rng) -> bytes:
    """A tar whose members may be called and be anything."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=rng.choice((0, 1, 2))) as tar:
        for _ in range(rng.randint(1, 6)):
            member = tarfile.TarInfo(rng.choice(NAMES))
            member.type = rng.choice((tarfile.REGTYPE, *TYPES))
            member.linkname = rng.choice(("", "/etc/passwd", "a/1.png", "../.."))
            told = damage_value({"caption": "x", "__key__": "y", "name": "z"}, rng)
            content = rng.choice((b"\x89PNG", b"\xff", written(told, rng)))
            member.size = len(content) if member.isreg() else 0
            try:
                tar.addfile(member, io.BytesIO(content))
            except (ValueError, tarfile.TarError):  # cannot be written in this dialect
                continue
    return buffer.getvalue()


@pytest.mark.parametrize("seeds", [QUICK, *slow(100, parts=2)])
def test_damaged_tars(seeds, tmp_path):
    def run(rng):
        content = built(rng)
        path = tmp_path / rng.choice(("a.tar", "a.tar.gz"))
        content = damage(content, rng) if rng.random() < 0.7 else content
        if path.suffix == ".gz":
            content = gzip.compress(content, 1)
            content = damage(content, rng, 2) if rng.random() < 0.5 else content
        path.write_bytes(content)
        go_through("webdataset", path)

    before = sorted(tmp_path.parent.iterdir())
    counts = tried(seeds, run, allowed=(BadSet, TwoFiles))
    assert all(counts.values())
    assert sorted(tmp_path.parent.iterdir()) == before
    assert {each.name for each in tmp_path.iterdir()} <= {"a.tar", "a.tar.gz"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import ipc, parquet

    file = {"bytes": b"\x89PNG\r\n\x1a\n picture", "path": "a.png"}
    rows = {
        "name": [f"c{i}" for i in range(40)],
        "image": [file] * 40,
        "caption": ["wörds"] * 40,
        "mask_face": [file, None] * 20,
        "references": [[file], []] * 20,
    }
    whole, folder = arrow.table(rows), tmp_path_factory.mktemp("tables")
    made = {}
    for packing in ("snappy", "zstd", "none"):
        path = folder / f"{packing}.parquet"
        parquet.write_table(whole, path, compression=packing, row_group_size=16)
        made[path.name] = path.read_bytes()
    for name, opened in (("s.arrow", ipc.new_stream), ("f.arrow", ipc.new_file)):
        with opened(str(folder / name), whole.schema) as writer:
            writer.write_table(whole)
        made[name] = (folder / name).read_bytes()
    return made


@pytest.mark.parametrize("seeds", [QUICK, *slow(100, parts=2)])
def test_damaged_tables(seeds, tables, tmp_path):
    def run(rng):
        name = rng.choice(sorted(tables))
        path = tmp_path / name
        content = tables[name]
        if name.endswith("parquet") and rng.random() < 0.5:  # where it says what is where
            content = content[:-600] + damage(content[-600:-4], rng) + content[-4:]
        else:
            content = damage(content, rng)
        path.write_bytes(content)
        go_through("parquet", path)

    assert all(tried(seeds, run, allowed=(BadMedia, TwoFiles)).values())


@pytest.mark.parametrize("seeds", [QUICK, *slow(100)])
def test_tables_of_strange_values(seeds, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "t.parquet"
    cells = [
        "a.png",
        "..",
        "a\0b.png",
        "x" * 300 + ".png",
        "~nobody/a.png",
        "/etc/passwd",
        "",
        None,
    ]
    data = [b"\x89PNG\r\n\x1a\n", b"", b"?", None]

    def run(rng):
        columns = {
            "name": arrow.array(rng.choices(["a", "b", "..", "x\0", "é", "", None], k=2)),
            "image": rng.choice(
                (
                    [{"bytes": rng.choice(data), "path": rng.choice(cells)} for _ in range(2)],
                    rng.choices(cells, k=2),
                    rng.choices([1, 2.5], k=2),
                )
            ),
            # Bytes that are no UTF-8, in a column that says they are.
            "caption": arrow.array([b"\xff\xfe", b"fine"]).view(arrow.string())
            if rng.random() < 0.3
            else arrow.array(rng.choice((["a", "b"], [1, 2], [None, "c"]))),
            "references": rng.choice(([["a.png"], []], [1, 2], ["a.png", None])),
        }
        kept = rng.sample(sorted(columns), rng.randint(1, 4))
        parquet.write_table(arrow.table({name: columns[name] for name in kept}), path)
        go_through("parquet", path)

    tried(seeds, run, allowed=(BadMedia, TwoFiles))


def bomb(path, size):
    """A packed tar of one empty member of `size` bytes."""
    member = tarfile.TarInfo("a.png")
    member.size = size
    with gzip.open(path, "wb") as packed:
        packed.write(member.tobuf())
        for _ in range(size // MIB):
            packed.write(bytes(MIB))
    return path


def test_a_packed_tar_that_unpacks_to_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    path = bomb(tmp_path / "a.tar.gz", 80 * MIB)
    tracemalloc.start()
    with pytest.raises(BadSet, match=r"a\.tar\.gz: has \d+ bytes and unpacks to more than 64 MiB"):
        go_through("webdataset", path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MIB


def test_a_full_disk_under_TMPDIR_is_no_damage(tmp_path, monkeypatch):
    import errno

    from frisket.data.formats import webdataset

    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    path = bomb(tmp_path / "a.tar.gz", 4 * MIB)
    monkeypatch.setattr(webdataset.tempfile, "SpooledTemporaryFile", lambda _: Full())
    with pytest.raises(
        BadSet, match=r"does not fit into .* \(No space left on device\); free some"
    ):
        go_through("webdataset", path)


def test_a_table_that_unpacks_to_much_is_refused_by_its_end(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    blob = bytes(66 * MIB)
    path = tmp_path / "t.parquet"
    table = arrow.table({"image": [blob], "caption": ["x"]})
    parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < MIB
    with pytest.raises(
        BadSet, match=r"t\.parquet: column 'image' unpacks from \d+ to 69\d{6} bytes"
    ):
        go_through("parquet", path)
