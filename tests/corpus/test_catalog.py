"""The catalog is the shards' rows and nothing else; a corpus opens lazily and gives a segment's motion at once."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from corpus import catalog, schema
from corpus.catalog import Corpus, fold
from corpus.errors import CorruptShard, MotionloomError, RecipeMismatch
from corpus.motion import RobotMotion
from corpus.store import Shard, ShardWriter

RECIPE = "0123456789abcdef0123456789abcdef"
SHARDS = ("1111", "2222", "3333")
DOCUMENT = Path(__file__).parents[2] / "docs" / "format.md"


def motion(frames: int, seed: int) -> RobotMotion:
    rng = np.random.default_rng(seed)
    qpos = np.cumsum(rng.normal(0, 0.01, (frames, 36)), 0)
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    return RobotMotion(qpos.astype(np.float32), 50.0, rng.integers(0, 2, (frames, 4), np.uint8))


def whole_motion(shard: str, clip: int) -> RobotMotion:
    return motion(400, int(shard) + clip)


def key(shard: str, clip: int) -> str:
    return hashlib.blake2b(f"{shard}{clip}".encode(), digest_size=16).hexdigest()


def write_shard(out: Path, shard: str, recipe: str = RECIPE) -> None:
    """Two clips of 400 frames: 0–150 and 250–400 kept, 150–230 rejected, 20 frames cut; and one that is unreadable."""
    with ShardWriter(out / "shards", shard, recipe) as writer:
        for clip in (0, 1):
            row = {
                "clip": key(shard, clip), "source": "amass" if clip else "robot", "path": f"{shard}/{clip}",
                "licence": "A" if clip else "B", "status": "kept",
                "frames": 400, "frames_kept": 300, "frames_rejected": 80, "frames_cut": 20,
            }  # fmt: skip
            segments = [
                {"start": 0, "frames": 150, "status": "kept"},
                {"start": 150, "frames": 80, "status": "rejected", "reason": "jerk"},
                {"start": 250, "frames": 150, "status": "kept"},
            ]
            writer.add(row, segments, whole_motion(shard, clip))
        lost = {"clip": key(shard, 2), "source": "robot", "path": f"{shard}/2", "licence": "B", "status": "rejected"}
        writer.add(lost | {"reason": "truncated"}, [], None)
        writer.commit()


def write_corpus(out: Path, shards: tuple[str, ...] = SHARDS) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    for shard in shards:
        write_shard(out, shard)
    about = {"format": 1, "recipe": {"gate": {}}, "recipe_hash": RECIPE, "robot": "g1", "joint_names": [], "fps": 50.0}
    (out / "corpus.json").write_text(json.dumps(about))
    fold(out)
    return out


@pytest.fixture
def out(tmp_path) -> Path:
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def corpus(out) -> Corpus:
    return Corpus.open(out)


def catalog_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "catalog").iterdir()}


# --- folding


def test_the_catalog_is_the_rows_of_all_shards_in_their_order(out, corpus):
    for name, table_schema in (("clips", schema.CLIPS), ("segments", schema.SEGMENTS)):
        expected = [row for shard in SHARDS for row in getattr(Shard.open(out / "shards" / shard), name).to_pylist()]
        table = pq.read_table(out / "catalog" / f"{name}-00000.parquet")
        assert table.to_pylist() == expected
        assert table.schema.remove_metadata() == table_schema
        assert getattr(corpus, name).collect().to_dicts() == expected


def test_the_order_in_which_shards_were_made_and_their_place_do_not_show(out, tmp_path):
    other = write_corpus(tmp_path / "another" / "place", SHARDS[::-1])
    assert catalog_bytes(other) == catalog_bytes(out)


def test_a_corpus_that_grew_has_the_catalog_of_one_made_at_once(out, tmp_path):
    grown = write_corpus(tmp_path / "grown", SHARDS[:1])
    assert catalog_bytes(grown) != catalog_bytes(out)
    for shard in SHARDS[1:]:
        write_shard(grown, shard)
    fold(grown)
    assert catalog_bytes(grown) == catalog_bytes(out)


def test_a_lost_catalog_can_be_folded_again(out):
    before = catalog_bytes(out)
    shutil.rmtree(out / "catalog")
    fold(out)
    assert catalog_bytes(out) == before


def test_rows_lie_in_few_large_groups_and_keep_their_order(out, monkeypatch):
    expected = pl.read_parquet(out / "catalog" / "segments-00000.parquet")
    monkeypatch.setattr(catalog, "ROW_GROUP", 4)
    fold(out)
    file = pq.ParquetFile(out / "catalog" / "segments-00000.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [4, 4, 4, 4, 2]
    corpus = Corpus.open(out)
    assert corpus.segments.collect().equals(expected)
    assert corpus.kept["segment"].to_list() == expected.filter(pl.col("status") == "kept")["segment"].to_list()


def test_half_made_shards_are_not_seen(out):
    before = catalog_bytes(out)
    shutil.copytree(out / "shards" / "1111", out / "shards" / ".tmp-4444-1-ab")
    (out / "shards" / "5555").mkdir()
    fold(out)
    assert catalog_bytes(out) == before


def test_a_corpus_without_shards_has_an_empty_catalog(tmp_path):
    corpus = Corpus.open(write_corpus(tmp_path, ()))
    assert len(corpus.clips.collect()) == len(corpus.kept) == 0
    assert corpus.segments.collect_schema().names() == schema.SEGMENTS.names


def test_a_fold_that_fails_leaves_the_old_catalog_and_no_litter(out, monkeypatch):
    before = catalog_bytes(out)
    write_shard(out, "4444")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(catalog, "sync", full)
    with pytest.raises(OSError, match="No space"):
        fold(out)
    assert catalog_bytes(out) == before


def test_a_damaged_shard_is_not_folded(out):
    path = out / "shards" / "2222" / "clips.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    before = catalog_bytes(out)
    with pytest.raises(CorruptShard, match=r"2222/clips\.parquet"):
        fold(out)
    assert catalog_bytes(out) == before


def test_a_shard_of_another_recipe_is_refused_by_name(out):
    write_shard(out, "4444", recipe="f" * 32)
    with pytest.raises(RecipeMismatch, match=f"4444 was made by recipe {'f' * 32}, this corpus by {RECIPE}"):
        fold(out)


# --- opening


def test_tables_are_lazy_and_the_recipe_is_there(corpus):
    assert isinstance(corpus.clips, pl.LazyFrame) and isinstance(corpus.segments, pl.LazyFrame)
    assert corpus.recipe == {"gate": {}} and corpus.fps == 50.0


def test_a_segments_motion_by_number_or_name_is_a_view_of_the_mapped_shard(corpus):
    for number, row in enumerate(corpus.kept.to_dicts()):
        clip = next(c for c in (0, 1) if key(row["shard"], c) == row["clip"])
        expected = whole_motion(row["shard"], clip).slice(row["start"], row["start"] + row["frames"])
        for name in (number, row["segment"], np.int64(number)):
            got = corpus.motion(name)
            assert np.array_equal(got.qpos, expected.qpos) and got.fps == 50.0
            assert got.contact is not None and expected.contact is not None
            assert np.array_equal(got.contact, expected.contact)
        assert np.shares_memory(corpus.motion(number).qpos, corpus.shard(corpus.shard_of[number]).qpos)


def test_a_motion_costs_the_same_however_large_the_corpus_is(corpus, monkeypatch):
    """Once the tables are known, no table is read or searched and no file opened again."""
    first, second = corpus.kept["segment"][:2]
    for known in (0, first):
        corpus.motion(known)
    monkeypatch.setattr(Corpus, "segments", property(lambda self: pytest.fail("reads the table")))
    monkeypatch.setattr(Shard, "open", lambda *_: pytest.fail("opens the shard"))
    monkeypatch.setattr(pl.DataFrame, "filter", lambda *_, **__: pytest.fail("searches the table"))
    assert corpus.motion(1).frame_count == corpus.motion(second).frame_count == 150


def test_a_motion_opens_its_own_shard_only(out):
    shutil.rmtree(out / "shards" / "3333")
    corpus = Corpus.open(out)
    assert corpus.motion(0).frame_count == 150
    with pytest.raises(CorruptShard, match="3333"):
        corpus.motion(len(corpus.kept) - 1)


def test_what_a_loader_needs_is_there_without_the_names_of_segments(corpus):
    kept = corpus.segments.filter(pl.col("status") == "kept").collect()
    assert [corpus.shard_ids[number] for number in corpus.shard_of] == kept["shard"].to_list()
    assert corpus.row.tolist() == kept["row"].to_list() and corpus.frames.tolist() == kept["frames"].to_list()
    assert corpus.shard_ids == tuple(sorted(set(kept["shard"]))) and "kept" not in vars(corpus)


def test_an_unknown_or_rejected_segment_is_named(corpus):
    rejected = corpus.segments.filter(pl.col("status") == "rejected").collect()["segment"][0]
    for name in ("nothing", rejected):
        with pytest.raises(MotionloomError, match=f"No kept segment named '{name}'"):
            corpus.motion(name)
    with pytest.raises(MotionloomError, match="numbered 0 to"):
        corpus.motion(10_000)


def test_a_catalog_that_tells_of_other_frames_than_its_shard_is_noticed(out):
    path = out / "catalog" / "segments-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows - 1), path)
    corpus = Corpus.open(out)
    with pytest.raises(CorruptShard, match="600 frames, the catalog says 450"):
        corpus.motion(len(corpus.kept) - 1)


@pytest.mark.parametrize(("row", "frames"), [(1, 150), (-1, 150), (10**12, 150), (0, 0), (0, -150)])
def test_a_catalog_that_tells_of_rows_beyond_its_shards_is_noticed(out, row, frames):
    path = out / "catalog" / "segments-00000.parquet"
    table = pq.read_table(path)
    for name, value in (("row", row), ("frames", frames)):
        column = table[name].to_pylist()
        # The last one kept of its shard, and the first.
        column[5 if row else 0] = value + (150 * 3 if (name, row) == ("row", 1) else 0)
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), [column])
    pq.write_table(table, path)
    with pytest.raises(MotionloomError, match="catalog is damaged"):
        _ = Corpus.open(out).frames


def test_two_halves_of_different_folds_are_noticed(out):
    old = (out / "catalog" / "clips-00000.parquet").read_bytes()
    write_shard(out, "4444")
    fold(out)
    (out / "catalog" / "clips-00000.parquet").write_bytes(old)
    with pytest.raises(MotionloomError, match="folded by half"):
        Corpus.open(out)


def test_a_folder_that_is_no_corpus_says_what_makes_one(tmp_path, out):
    with pytest.raises(MotionloomError, match="loom build"):
        Corpus.open(tmp_path / "nowhere")
    shutil.rmtree(out / "catalog")
    with pytest.raises(MotionloomError, match="no catalog yet"):
        Corpus.open(out)


def test_a_damaged_catalog_is_one_clear_line(out):
    (out / "catalog" / "segments-00000.parquet").write_bytes(b"PAR1 not at all")
    with pytest.raises(MotionloomError, match=r"is damaged .* delete it and run the build again"):
        Corpus.open(out)


def test_a_path_of_odd_characters_is_no_pattern(tmp_path):
    """Neither brackets nor `name=value` in a folder's name mean anything."""
    corpus = Corpus.open(write_corpus(tmp_path / "run=3 [a-z]*"))
    assert len(corpus.kept) == 12 and corpus.clips.collect_schema().names() == schema.CLIPS.names
    assert corpus.motion(5).frame_count == 150


def test_a_corpus_sent_to_another_process_takes_its_path_along_and_not_its_frames(corpus):
    first = corpus.motion(0).qpos
    sent = pickle.dumps(corpus)
    assert len(sent) < 1000 and np.array_equal(pickle.loads(sent).motion(0).qpos, first)


# --- the document


def test_numbers_of_segments_and_shards_are_never_mixed_with_those_of_a_corpus_that_has_grown(out):
    """Whoever goes on with the old numbers would read other motion, or beyond the end of a shard."""
    corpus, other = Corpus.open(out), Corpus.open(out)
    sent = pickle.dumps(corpus)
    assert len(corpus.frames) == len(corpus.kept) == 12
    write_shard(out, "0000")
    fold(out)
    assert len(corpus.frames) == len(corpus.kept) == 12
    for late in (lambda: pickle.loads(sent), lambda: corpus.measure("speed_use"), lambda: other.frames):
        with pytest.raises(MotionloomError, match="was opened: open it anew"):
            late()
    assert len(Corpus.open(out).frames) == 16


def test_the_reader_in_the_document_reads_the_corpus(out, corpus):
    """The code block of docs/format.md, run as it stands."""
    names: dict = {}
    exec(DOCUMENT.read_text().split("```python\n")[1].split("```")[0], names)
    rows = names["kept_segments"](out)
    assert [row["segment"] for row in rows] == corpus.kept["segment"].to_list()
    for number, row in enumerate(rows):
        qpos, contact = names["frames"](out, row)
        assert np.array_equal(qpos, corpus.motion(number).qpos)
        assert np.array_equal(contact, corpus.motion(number).contact)


@pytest.mark.parametrize("name", ["clips", "segments"])
def test_the_document_names_every_column(name):
    section = DOCUMENT.read_text().split(f"### {name}:")[1].split("\n#")[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")][1:]
    told = [word.strip() for cell in first_cells for word in cell.split(",")]
    assert told == getattr(schema, name.upper()).names
