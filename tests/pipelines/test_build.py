"""Files go in, a whole corpus comes out: every file kept or a row with its reason, and a rerun does what is missing."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corpus.catalog import fold
from corpus.errors import MotionloomError, RecipeMismatch, Rejected
from corpus.sources.options import LoadOptions
from corpus.store import ShardWriter
from pipelines import build as module
from pipelines import clips as clips_module
from pipelines import executor, inventory, plan
from pipelines.build import build
from pipelines.clips import as_json, reject
from pipelines.place import locked
from pipelines.recipe import Recipe, with_choice
from pipelines.shard_task import HANDLING, build_shard, shard_tasks


@pytest.fixture(scope="module")
def folder(tmp_path_factory, motion_folder) -> Path:
    return motion_folder(tmp_path_factory.mktemp("files") / "robot", 6)


@pytest.fixture(scope="module")
def built(tmp_path_factory, folder) -> Path:
    out = tmp_path_factory.mktemp("built") / "corpus"
    outcome = build({"robot": folder}, out, scheduler="inline")
    assert outcome.complete and outcome.built_count == outcome.shard_count >= 1
    return out


@pytest.fixture
def out(tmp_path, built) -> Path:
    """A copy of the corpus, to be spoiled."""
    return Path(shutil.copytree(built, tmp_path / "corpus"))


@pytest.fixture
def small_shards(monkeypatch):
    """Several shards from a few seconds of motion."""
    monkeypatch.setattr(plan, "SMALL_SHARD_FRAMES", 300)


def clips(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "catalog" / "clips-*.parquet").sort("source", "path")


def again(folder: Path, out: Path, **options):
    return build({"robot": folder}, out, **{"scheduler": "inline", **options})


# --- what is in a corpus


def test_every_file_is_kept_or_a_row_with_its_reason(folder, built):
    rows = clips(built)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(rows["path"]) == files
    by_path = {row["path"]: row for row in rows.to_dicts()}
    assert {p: r["status"] for p, r in by_path.items() if p.startswith("take") and p != "take000.csv"} == {
        f"take{i:03d}.csv": "kept" for i in range(1, 6)
    }
    # Which of two equal files counts is decided by name.
    assert by_path["copy.csv"]["status"] == "kept" and by_path["take000.csv"]["reason"] == "duplicate_file"
    assert json.loads(by_path["take000.csv"]["numbers"]) == {"first": "robot:copy.csv"}
    assert by_path["empty.csv"]["reason"] == "empty_file" and by_path["sub/nan.csv"]["reason"] == "not_finite"
    assert by_path["notes.txt"]["reason"] == "not_motion"
    assert all(row["reason"] for row in by_path.values() if row["status"] == "rejected")


def test_frames_in_are_kept_rejected_or_cut(built):
    rows = clips(built)
    assert (rows["frames"] == rows["frames_kept"] + rows["frames_rejected"] + rows["frames_cut"]).all()
    segments = pl.read_parquet(built / "catalog" / "segments-*.parquet").filter(pl.col("status") == "kept")
    assert segments["frames"].sum() == rows["frames_kept"].sum() > 0


def test_a_clip_that_kept_nothing_names_what_cost_it_most(folder, tmp_path):
    recipe = with_choice(Recipe(), "cut.min_s", "15")
    build({"robot": folder}, tmp_path / "corpus", recipe, "inline")
    row = clips(tmp_path / "corpus").filter(pl.col("path") == "take001.csv").to_dicts()[0]
    assert row["status"] == "rejected" and row["reason"] == "too_short" and row["frames_cut"] == row["frames"] > 100


def test_nothing_tells_where_the_files_lay(folder, built):
    text = str(folder).encode()
    assert not [p for p in built.rglob("*") if p.is_file() and p.name != "keys.parquet" and text in p.read_bytes()]


def test_two_sources_on_one_folder_keep_each_motion_once(folder, tmp_path):
    """A file that one reader does not know is not lost to the other, and one that both know is kept once."""
    build({"robot": folder, "amass": folder}, tmp_path / "both", scheduler="inline")
    rows = clips(tmp_path / "both")
    assert len(rows) == 2 * len(set(rows["path"]))
    kept = rows.filter(pl.col("status") == "kept")
    assert set(kept["source"]) == {"robot"} and kept["clip"].n_unique() == len(kept) == 6


def test_of_two_sources_with_the_same_bytes_the_more_telling_one_is_asked_first(tmp_path):
    row = dict.fromkeys(plan.PLAN_COLUMNS, "") | {"clip": "k", "shard": "s", "byte_count": 1, "frames": 1}
    rows = pl.DataFrame([row | {"source": name} for name in ("bvh", "robot", "lafan1")], plan.PLAN_COLUMNS)
    (task,) = shard_tasks(rows, {}, tmp_path, Recipe(), LoadOptions())
    assert [clip["source"] for clip in task["clips"]] == ["lafan1", "bvh", "robot"]


def test_the_same_task_can_be_run_by_hand(folder, out, small_shards):
    """Debugging is the same call with one task."""
    task = next(shard_tasks(plan.read_plan(out)[1], {"robot": folder}, out, Recipe(), LoadOptions()))
    shutil.rmtree(out / "shards" / task["shard"])
    result = build_shard(json.loads(json.dumps(task)))
    assert result["frames"] > 0 and result["clips_rejected"] >= 1 and result["peak_memory_mb"] > 10
    assert len(json.dumps(result)) < 1000 and (out / "shards" / task["shard"] / "shard.json").exists()


def test_a_clip_that_kills_workers_is_a_row_and_its_neighbours_are_as_without_it(folder, out, tmp_path):
    task = next(shard_tasks(plan.read_plan(out)[1], {"robot": folder}, tmp_path, Recipe(), LoadOptions()))
    culprit = next(clip for clip in task["clips"] if clip["path"] == "take003.csv")
    build_shard(HANDLING.mark(task, [{**task, "clips": [culprit]}]))
    with_it, without = (pl.read_parquet(at / "shards" / task["shard"] / "clips.parquet") for at in (out, tmp_path))
    row = without.filter(pl.col("path") == "take003.csv").to_dicts()[0]
    assert (row["status"], row["reason"], row["numbers"]) == ("rejected", "crashed_worker", '{"deaths": 2}')
    others = pl.col("path") != "take003.csv"
    assert without.filter(others).equals(with_it.filter(others))


def test_where_every_clip_kills_its_worker_it_is_not_the_clips(folder, out, tmp_path, caplog):
    """As with too little memory: a corpus of nothing but `crashed_worker` would stay so for good."""
    task = next(shard_tasks(plan.read_plan(out)[1], {"robot": folder}, tmp_path, Recipe(), LoadOptions()))
    probes = [{**task, "clips": [clip]} for clip in task["clips"]]
    assert HANDLING.mark(task, probes) == task and "too little memory" in caplog.text
    marked = HANDLING.mark(task, probes[:-3])
    assert len(marked["crashed"]) == len(probes) - 3 and HANDLING.mark(marked, probes[-3:]) == marked


def test_a_probe_works_on_its_clips_and_writes_nothing(folder, built, tmp_path):
    task = next(shard_tasks(plan.read_plan(built)[1], {"robot": folder}, tmp_path, Recipe(), LoadOptions()))
    halves = HANDLING.halves(task)
    assert [clip for half in halves for clip in half["clips"]] == task["clips"]
    assert [build_shard(half)["probed"] for half in halves] == [len(half["clips"]) for half in halves]
    assert not list(tmp_path.iterdir())


# --- running again


def test_a_second_run_has_nothing_to_do_and_starts_nothing(folder, out, monkeypatch, corpus_digests):
    before = corpus_digests(out)
    for name in ("run", "fold", "warm_up"):
        place = {"run": executor, "fold": module.catalog, "warm_up": module}[name]
        monkeypatch.setattr(place, name, lambda *_, **__: pytest.fail("should not be called"))
    outcome = again(folder, out, scheduler="local")
    assert outcome.complete and outcome.built_count == 0 and outcome.seconds < 5
    assert corpus_digests(out) == before


def test_a_lost_catalog_is_folded_again(folder, out, corpus_digests):
    before = corpus_digests(out)
    shutil.rmtree(out / "catalog")
    assert again(folder, out).complete and corpus_digests(out) == before


def test_a_lost_shard_is_built_again_to_the_same_bytes(folder, tmp_path, small_shards, corpus_digests):
    again(folder, tmp_path / "corpus")
    before = corpus_digests(tmp_path / "corpus")
    shards = sorted((tmp_path / "corpus" / "shards").iterdir())
    assert len(shards) > 2
    shutil.rmtree(shards[1])
    assert again(folder, tmp_path / "corpus").built_count == 1
    assert corpus_digests(tmp_path / "corpus") == before


def test_bytes_hang_neither_on_the_folders_place_nor_on_the_order_of_its_files(folder, built, tmp_path, corpus_digests):
    moved = tmp_path / "elsewhere" / "deep"
    for path in sorted((p for p in folder.rglob("*") if p.is_file()), reverse=True):
        (moved / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, moved / path.relative_to(folder))
    again(moved, tmp_path / "corpus")
    assert corpus_digests(tmp_path / "corpus") == corpus_digests(built)


def test_new_files_add_shards_and_leave_the_old_ones_alone(folder, out, tmp_path, standing_file, corpus_digests):
    more = Path(shutil.copytree(folder, tmp_path / "more"))
    standing_file(more / "new.csv", 99)
    shutil.copyfile(more / "take003.csv", more / "late copy.csv")
    before = {name: digest for name, digest in corpus_digests(out).items() if name.startswith("shards/")}
    assert again(more, out).built_count == 1
    assert before.items() <= corpus_digests(out).items()
    rows = {row["path"]: row for row in clips(out).to_dicts()}
    assert rows["new.csv"]["status"] == "kept" and rows["late copy.csv"]["reason"] == "duplicate_file"
    assert rows["take003.csv"]["status"] == "kept" and not list(inventory.troubles(out))


def test_leftovers_of_a_dead_run_are_cleared_away(folder, out):
    left = out / "shards" / ".tmp-0123456789abcdef-77"
    left.mkdir()
    (left / "part").write_bytes(b"x" * 1000)
    (out / "plans" / ".tmp-00002.parquet-77").write_bytes(b"x")
    assert again(folder, out).complete
    assert not list(out.rglob(".tmp-*"))


# --- trouble


def test_a_bug_in_one_clip_costs_its_shard_alone_and_names_the_file(
    folder, tmp_path, monkeypatch, small_shards, built, corpus_digests
):
    whole = clips_module._recorded_on_robot
    culprit = np.loadtxt(folder / "take003.csv", delimiter=",")

    def buggy(raw, recipe):
        if np.allclose(raw.qpos[-1, 7:], culprit[-1, 7:]):
            raise ZeroDivisionError("a bug")
        return whole(raw, recipe)

    monkeypatch.setattr(clips_module, "_recorded_on_robot", buggy)
    first = again(folder, tmp_path / "corpus")
    assert not first.complete and len(first.missing) == len(first.failures) == 1
    assert first.failures[0].error == "ZeroDivisionError: a bug (in robot:take003.csv)"
    assert first.built_count == first.shard_count - 1 > 1
    assert not list((tmp_path / "corpus" / "shards").glob(".tmp-*"))
    monkeypatch.setattr(clips_module, "_recorded_on_robot", whole)
    assert again(folder, tmp_path / "corpus").built_count == 1
    again(folder, tmp_path / "undisturbed")
    assert corpus_digests(tmp_path / "corpus") == corpus_digests(tmp_path / "undisturbed")


def test_a_full_disk_stops_the_build_in_one_line_and_leaves_nothing_half_made(folder, tmp_path, monkeypatch):
    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "commit", full)
        with pytest.raises(MotionloomError, match="the disk is full; free some space and run the same command"):
            again(folder, tmp_path / "corpus")
    assert plan.finished_shards(tmp_path / "corpus") == set()
    assert not list((tmp_path / "corpus" / "shards").glob(".tmp-*"))
    assert again(folder, tmp_path / "corpus").complete


def test_a_nearly_full_disk_is_told_before_work_begins(folder, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(MotionloomError, match="only 1 MiB of disk are free"):
        again(folder, tmp_path / "corpus")


def test_another_recipe_is_refused_and_the_difference_named(folder, out):
    recipe = with_choice(Recipe(), "cut.max_s", "7")
    with pytest.raises(RecipeMismatch, match=r"cut\.max_s is .* there and 7\.0 here"):
        again(folder, out, recipe=recipe)


def test_a_reading_option_is_part_of_the_recipe(folder, out):
    with pytest.raises(RecipeMismatch, match=r"load\.quaternion is 'auto' there and 'wxyz' here"):
        again(folder, out, load=LoadOptions(quaternion="wxyz"))


def test_a_corpus_inside_its_source_or_in_a_strangers_folder_is_refused(folder, tmp_path):
    with pytest.raises(MotionloomError, match="lies inside the source robot"):
        again(folder, folder / "corpus")
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(MotionloomError, match=r"holds other things \('thesis.tex'\)"):
        again(folder, tmp_path)
    with pytest.raises(MotionloomError, match="is a file"):
        again(folder, tmp_path / "thesis.tex")


def test_two_builds_of_one_corpus_do_not_meet(folder, tmp_path):
    with locked(tmp_path), pytest.raises(MotionloomError, match=r"being built by another process \(pid \d+\)"):
        again(folder, tmp_path)
    assert again(folder, tmp_path).complete


# --- info and verify


def test_a_whole_corpus_has_no_troubles(built):
    assert list(inventory.troubles(built)) == []


@pytest.mark.parametrize("part", ["shards", "catalog", "plan"])
def test_what_is_missing_or_damaged_is_told(out, part):
    shard = sorted((out / "shards").iterdir())[0]
    if part == "shards":
        target = max((p for p in shard.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        data = bytearray(target.read_bytes())
        data[len(data) // 3] ^= 1
        target.write_bytes(data)
    elif part == "catalog":
        shutil.rmtree(out / "catalog")
    else:
        shutil.rmtree(shard)
    found = list(inventory.troubles(out))
    assert found and any(
        {"shards": shard.name, "catalog": "catalog", "plan": "planned, but not there"}[part] in f for f in found
    )


def test_a_catalog_that_does_not_add_up_is_told(out):
    path = next((out / "catalog").glob("clips-*.parquet"))
    table = pl.read_parquet(path)
    table.with_columns(frames_cut=pl.col("frames_cut") + 1).write_parquet(path)
    assert any(trouble.startswith("ledger:") for trouble in inventory.troubles(out))
    fold(out)
    assert not list(inventory.troubles(out))


def test_totals_and_reasons_tell_of_every_file(folder, built):
    book, fps = inventory.ledger_of(built)
    assert book.total["clips"] == sum(1 for p in folder.rglob("*") if p.is_file()) and fps == 50.0
    assert book.total["frames"] == clips(built)["frames"].sum() > 0
    # Motion that came on the robot at 30 Hz: what was read is what is there at 50 Hz, but for what could not be read.
    assert book.total["frames_loaded"] == book.total["frames"]
    reasons = {(kind, reason): count for kind, reason, count, _ in inventory.reject_reasons(built, limit=50)}
    assert reasons["clips", "duplicate_file"] == 1 and reasons["clips", "empty_file"] == 1
    assert len(inventory.reject_reasons(built, limit=1)) == 1


# --- small things


def test_numbers_become_json_whatever_they_are():
    text = as_json({"b": np.float32(0.5), "a": float("nan"), "c": np.int64(3), "d": "x", "e": float("inf")})
    assert json.loads(text) == {"a": "nan", "b": 0.5, "c": 3, "d": "x", "e": "inf"}


def test_a_reason_names_no_folder_of_this_machine(tmp_path):
    row = reject({}, Rejected("unreadable", f"{tmp_path}/a/b.csv: no such file"), tmp_path)
    assert row["detail"] == "a/b.csv: no such file"
