"""Corpora of one recipe become one: every clip once, every motion once, bytes taken over where nothing stands twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corpus import catalog
from corpus.catalog import Corpus
from corpus.errors import CorruptShard, MotionloomError, RecipeMismatch
from corpus.motion import RobotMotion
from corpus.store import ShardWriter
from pipelines import inventory, plan
from pipelines.build import build
from pipelines.merge import merge
from pipelines.place import open_corpus
from pipelines.recipe import Recipe, with_choice

pytestmark = pytest.mark.usefixtures("many_shards")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, motion_folder) -> dict[str, Path]:
    """Two folders without anything in common, and one that has: two files under their names, one under another."""
    root = tmp_path_factory.mktemp("files")
    made = {"a": motion_folder(root / "a", 5), "b": motion_folder(root / "b", 4, first=20)}
    made["c"] = motion_folder(root / "c", 3, first=40)
    for name in ("take001.csv", "take002.csv"):
        shutil.copyfile(made["a"] / name, made["c"] / name)
    shutil.copyfile(made["a"] / "take003.csv", made["c"] / "another name.csv")
    return made


@pytest.fixture(scope="module")
def corpora(tmp_path_factory, folders, many_shards) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("corpora")
    for name, folder in folders.items():
        assert build({"robot": folder}, root / name, scheduler="inline").complete
    return {name: root / name for name in folders}


def rows(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "catalog" / "clips-*.parquet")


def motions(out: Path) -> dict[str, np.ndarray]:
    corpus = Corpus.open(out)
    return {name: np.array(corpus.motion(name).qpos) for name in corpus.kept["segment"]}


def test_shards_without_anything_in_common_are_taken_over_byte_for_byte(corpora, tmp_path, corpus_digests):
    done = merge([corpora["a"], corpora["b"]], tmp_path / "m")
    assert done.rewritten_count == done.dropped_count == done.copy_count == 0
    old = {k: v for name in "ab" for k, v in corpus_digests(corpora[name]).items() if k.startswith("shards/")}
    assert {k: v for k, v in corpus_digests(tmp_path / "m").items() if k.startswith("shards/")} == old
    assert done.taken_count == len({name.split("/")[1] for name in old})
    assert not list(inventory.troubles(tmp_path / "m"))


def test_what_both_hold_is_kept_once_and_copies_are_rows(corpora, tmp_path):
    out = tmp_path / "m"
    done = merge([corpora["a"], corpora["c"]], out)
    assert (done.dropped_count, done.copy_count) == (2, 1) and done.rewritten_count >= 1
    assert not list(inventory.troubles(out))
    table = rows(out)
    assert table.height == rows(corpora["a"]).height + rows(corpora["c"]).height - 2
    copy = table.filter(pl.col("path") == "another name.csv").to_dicts()[0]
    assert copy["reason"] == "duplicate_file" and json.loads(copy["numbers"]) == {"first": "robot:take003.csv"}
    kept = table.filter(pl.col("status") == "kept")
    assert kept["clip"].n_unique() == kept.height == 5 + 3
    expected = motions(corpora["a"]) | motions(corpora["c"])
    got = motions(out)
    assert got.keys() == expected.keys()
    assert all(np.array_equal(got[name], expected[name]) for name in got)


def test_the_other_order_gives_the_same_motion(corpora, tmp_path):
    merge([corpora["a"], corpora["c"]], tmp_path / "ac")
    merge([corpora["c"], corpora["a"]], tmp_path / "ca")
    ac, ca = motions(tmp_path / "ac"), motions(tmp_path / "ca")
    assert sorted(ac) == sorted(ca) and all(np.array_equal(ac[name], ca[name]) for name in ac)


def test_merging_again_or_after_a_kill_gives_the_same_bytes(corpora, tmp_path, corpus_digests):
    given = [corpora[name] for name in "abc"]
    merge(given, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    for number, shard in enumerate(sorted((tmp_path / "two" / "shards").iterdir())):
        if number % 2:
            shard.rename(shard.with_name(f".tmp-{shard.name}-1"))
    (tmp_path / "two" / "catalog" / "clips-00000.parquet").unlink()
    merge(given, tmp_path / "two")
    assert corpus_digests(tmp_path / "two") == corpus_digests(tmp_path / "one")


def test_a_merged_corpus_grows_like_any_other(corpora, folders, tmp_path, motion_folder):
    out = tmp_path / "m"
    merge([corpora["a"], corpora["b"]], out)
    together = tmp_path / "files"
    shutil.copytree(folders["a"], together)
    shutil.copytree(folders["b"], together, dirs_exist_ok=True)
    assert build({"robot": together}, out, scheduler="inline").built_count == 0
    motion_folder(together, 2, first=70)
    assert build({"robot": together}, out, scheduler="inline").built_count >= 1
    assert not list(inventory.troubles(out))
    assert rows(out).filter(pl.col("status") == "kept").height == 5 + 4 + 2


def test_corpora_of_different_recipes_are_refused_and_the_difference_named(corpora, folders, tmp_path):
    build({"robot": folders["b"]}, tmp_path / "b", with_choice(Recipe(), "cut.max_s", "7"), "inline")
    with pytest.raises(RecipeMismatch, match=r"cut\.max_s is 7\.0 there"):
        merge([corpora["a"], tmp_path / "b"], tmp_path / "m")


def test_a_damaged_corpus_is_refused(corpora, tmp_path):
    spoiled = Path(shutil.copytree(corpora["b"], tmp_path / "b"))
    path = sorted((spoiled / "shards").iterdir())[0] / "qpos/c/0/0"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CorruptShard, match=r"not those that were written"):
        merge([corpora["a"], spoiled], tmp_path / "m")


def test_many_clips_of_which_a_late_one_alone_has_a_reason_are_written_anew(tmp_path):
    places = [made_up(tmp_path / name, name, first) for name, first in (("a", 0), ("b", 119))]
    done = merge(places, tmp_path / "m")
    assert (done.taken_count, done.rewritten_count, done.dropped_count) == (1, 1, 1)
    assert rows(tmp_path / "m").height == 239 and not list(inventory.troubles(tmp_path / "m"))


def test_a_clip_that_killed_its_worker_in_one_corpus_alone_is_taken_from_the_other(tmp_path):
    a = made_up(tmp_path / "a", "a", 0, reason="crashed_worker")
    b = made_up(tmp_path / "b", "b", 119, reason="crashed_worker")
    c = made_up(tmp_path / "c", "c", 238 - 119, reason="crashed_worker")
    for given in ([a, b], [b, a]):
        out = tmp_path / f"{given[0].name}{given[1].name}"
        done = merge(given, out)
        assert done.dropped_count == 1 and not list(inventory.troubles(out))
        assert rows(out).filter(pl.col("path") == "119.csv")["status"].to_list() == ["kept"]
    assert merge([b, c], tmp_path / "bc").dropped_count == 120
    assert rows(tmp_path / "bc").filter(pl.col("path") == "238.csv")["reason"].to_list() == ["crashed_worker"]


def made_up(out: Path, shard: str, first: int, *, reason: str = "empty_file") -> Path:
    """A corpus of 120 clips, numbered from `first`, of which the last one is rejected."""
    out.mkdir()
    open_corpus(out, Recipe())
    with ShardWriter(out / "shards", shard, Recipe().hash) as writer:
        for number in range(first, first + 120):
            clip = {"clip": f"{number:032x}", "source": "robot", "path": f"{number}.csv", "part": "", "licence": ""}
            counts = dict.fromkeys(("frames", "frames_kept", "frames_rejected", "frames_cut"), 0)
            why = {"status": "kept"} if number < first + 119 else {"status": "rejected", "reason": reason}
            counts |= {"frames": 2, "frames_kept": 2} if why["status"] == "kept" else {}
            segments = [{"start": 0, "frames": 2, "status": "kept"}] if counts["frames"] else []
            motion = RobotMotion(np.zeros((2, 36), np.float32), 50.0, np.zeros((2, 4), np.uint8))
            writer.add(clip | counts | why, segments, motion)
        writer.commit()
    catalog.fold(out)
    return out


def test_a_shard_that_was_damaged_after_it_was_merged_is_taken_over_again(tmp_path, corpus_digests):
    places = [made_up(tmp_path / name, name, first) for name, first in (("a", 0), ("b", 200))]
    merge(places, tmp_path / "m")
    whole = corpus_digests(tmp_path / "m")
    for spoil in (b"", (tmp_path / "m/shards/a/qpos/c/0/0").read_bytes()[::-1]):
        (tmp_path / "m/shards/a/qpos/c/0/0").write_bytes(spoil)
        (tmp_path / "m/plans/00001.parquet").write_bytes(b"")
        merge(places, tmp_path / "m")
        shutil.rmtree(tmp_path / "m/quarantine")
        assert corpus_digests(tmp_path / "m") == whole


def test_corpora_without_shards_give_none_and_missing_ones_are_told(tmp_path, caplog):
    for name in "ab":
        (tmp_path / name).mkdir()
        open_corpus(tmp_path / name, Recipe())
    with pytest.raises(MotionloomError, match="none of them holds a shard"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    made_up(tmp_path / "c", "c", 0)
    planned = pl.DataFrame({name: ["x"] for name in plan.PLAN_COLUMNS})
    (tmp_path / "a" / "plans").mkdir()
    planned.write_parquet(tmp_path / "a" / "plans" / "00001.parquet")
    merge([tmp_path / "a", tmp_path / "c"], tmp_path / "n")
    assert "a lacks 1 shards that it has planned" in caplog.text


def test_a_merge_is_of_folders(tmp_path):
    for given, out in ((["s3://b/a", tmp_path], tmp_path / "m"), ([tmp_path, tmp_path / "a"], "s3://b/m")):
        with pytest.raises(MotionloomError, match=r"s3://b/[am]: a merge is made of folders"):
            merge(given, out)


def test_a_merge_needs_two_corpora_and_a_place_of_its_own(corpora, tmp_path):
    for given, out in (([corpora["a"]], "m"), ([corpora["a"]] * 2, "m")):
        with pytest.raises(MotionloomError, match="at least two different corpora"):
            merge(given, tmp_path / out)
    with pytest.raises(MotionloomError, match="a folder that is none of them"):
        merge([corpora["a"], corpora["b"]], corpora["a"])
    other = Path(shutil.copytree(corpora["c"], tmp_path / "c"))
    with pytest.raises(MotionloomError, match="holds shards of other corpora"):
        merge([corpora["a"], corpora["b"]], other)
