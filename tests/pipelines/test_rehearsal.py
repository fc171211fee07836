"""A rehearsal is a build and a loader in everything but the motion, and its sum for a cluster can be checked by hand."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zarr

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.store import Shard, verify_shard
from pipelines import cli, plan
from pipelines.recipe import Recipe
from pipelines.rehearsal import costs, made_up, made_up_shards
from pipelines.rehearsal import rehearse as rehearsing
from pipelines.rehearsal.estimate import estimate, overhead_fraction, workers_fed
from pipelines.rehearsal.rehearse import Rehearsal, check, figures, measured, rehearse, run_alone

FRAMES, CLIPS = 800_000, 2000
SMALL = Rehearsal(frames=FRAMES, clips=CLIPS, frames_per_core_second=40_000.0, looked_at=300)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def found(place):
    """A small rehearsal, left on the disk."""
    return rehearse(SMALL, place, workers=1, keep=True, run=measured)


@pytest.fixture
def corpus(found, place) -> Path:
    (work,) = place.iterdir()
    return work / "corpus"


# --- made-up clips and shards


def test_made_up_clips_have_the_frames_asked_for_and_are_a_function_of_the_seed():
    rows = made_up.clip_rows(CLIPS, FRAMES, seed=3)
    assert rows.unique("clip")["frames"].sum() == FRAMES and rows["frames"].min() >= 1
    assert rows.select("source", "path").is_unique().all() and set(rows["clip"].str.len_bytes()) == {32}
    assert rows.equals(made_up.clip_rows(CLIPS, FRAMES, seed=3))
    assert not rows.equals(made_up.clip_rows(CLIPS, FRAMES, seed=4))


def test_made_up_clips_are_as_various_as_real_ones():
    rows = made_up.clip_rows(CLIPS, FRAMES)
    assert set(rows["source"]) == set(made_up.SOURCES)
    assert rows["path"].str.len_bytes().is_between(30, 90).all()
    assert 0.01 < 1 - rows["clip"].n_unique() / CLIPS < 0.05
    assert (
        rows.filter(rows["clip"].is_duplicated()).group_by("clip").agg(pl.col("frames").n_unique())["frames"].max() == 1
    )
    assert rows["frames"].median() < 0.8 * rows["frames"].mean()


def test_fewer_frames_than_clips_cannot_be():
    with pytest.raises(ValueError, match="fewer than one for each"):
        made_up.clip_rows(100, 50)


def test_made_up_shards_are_whole_to_the_last_byte_and_take_no_disk(corpus):
    shards = sorted((corpus / "shards").iterdir())
    assert [trouble for shard in shards for trouble in verify_shard(shard)] == []
    for shard in shards:
        file = shard / "qpos" / "c" / "0" / "0"
        assert file.stat().st_blocks * 512 < file.stat().st_size / 10


def test_any_zarr_reader_reads_made_up_shards(corpus):
    path = min((corpus / "shards").iterdir())
    group = zarr.open_group(path, mode="r")
    frames = Shard.open(path).frame_count
    assert group["qpos"].shape == (frames, 36) and group["contact"].shape == (frames, 4)
    assert not np.any(group["qpos"][frames - 300 :]) and np.array_equal(group["qpos"][:], Shard.open(path).qpos)


def test_segments_of_made_up_clips_lie_in_them_one_after_another(corpus):
    opened = Corpus.open(corpus)
    clips = opened.clips.filter(pl.col("frames") > 0).select("clip", length="frames")
    segments = opened.segments.join(clips, on="clip").collect()
    assert len(segments) == opened.segments.select(pl.len()).collect().item()
    assert (segments["start"] + segments["frames"] <= segments["length"]).all()
    after = segments.with_columns(end_before=(pl.col("start") + pl.col("frames")).shift().over("clip"))
    assert (after["end_before"].fill_null(0) <= after["start"]).all()


def test_a_clip_without_frames_has_a_row_and_no_segment():
    rows = made_up.clip_rows(4, 40).with_columns(shard=pl.lit("a"), duplicate_of=pl.lit("")).sort("clip")
    clips, segments = made_up_shards.tables(rows, np.random.default_rng(0))
    assert len(clips) == 4 and len(segments) == 0
    assert set(clips["status"].to_pylist()) == {"rejected"}


# --- the stages


def test_the_stages_tell_of_the_same_clips_frames_and_shards(found):
    check(found, SMALL)
    assert found["planned"]["different_clips"] == found["query"]["ledger_clips"] == CLIPS
    assert found["query"]["ledger_frames"] == FRAMES
    assert found["resume"]["missing_shards"] == found["plan"]["shards"] // 2
    assert found["schedule"]["tasks"] == found["plan"]["shards"] == plan.shard_count(FRAMES)


@pytest.mark.parametrize(
    ("stage", "name", "claim"),
    [
        ("planned", "different_clips", "every clip once"),
        ("plan", "finished", "leaves all to do"),
        ("resume", "missing_shards", "the other half"),
        ("query", "ledger_frames", "adds up to the frames"),
        ("open", "kept_frames", "what was kept"),
        ("schedule", "tasks", "every task came back"),
    ],
)
def test_stages_that_disagree_fail_the_rehearsal(found, stage, name, claim):
    wrong = copy.deepcopy(found)
    wrong[stage][name] += 1
    with pytest.raises(MotionloomError, match=claim):
        check(wrong, SMALL)


def test_a_resumed_plan_is_the_plan_of_the_clips_themselves(corpus):
    number, stored = plan.read_plan(corpus)
    clips = made_up.clip_rows(CLIPS, FRAMES)
    anew = plan.deal(clips.with_columns(duplicate_of=pl.lit("")), Recipe().hash)
    assert number == 1 and stored.equals(anew.sort("shard", *plan.IDENTITY))


def test_a_stage_alone_tells_its_own_memory():
    ballast = np.ones(400 << 17)  # 400 MiB here do not count there
    alone = run_alone(divmod_of, 17, 5)
    assert (alone["quotient"], alone["rest"]) == (3, 2) and 10 < alone["peak_mb"] < ballast.nbytes >> 20


def divmod_of(one: int, other: int) -> dict[str, int]:
    return dict(zip(("quotient", "rest"), divmod(one, other), strict=True))


def test_the_rate_is_that_of_a_real_build(tmp_path):
    rate = costs.build_some(tmp_path, 4, 1)
    assert rate["frames"] == 4 * 400 and rate["slowest"] <= rate["frames_per_core_second"] <= rate["fastest"]
    assert 0.5 < rate["kept_share"] <= 1 and rate["rounds"] == 1


# --- the sum


@pytest.fixture
def factors(found):
    return {factor.name: factor for factor in estimate(found, frames=2_000_000_000, clips=5_000_000, cores=500)}


def test_core_hours_are_frames_by_rate_by_efficiency(factors):
    value = {name: factor.value for name, factor in factors.items()}
    assert value["core-hours"] == pytest.approx(2e9 / 40_000 / value["efficiency"] / 3600)
    assert value["core-hours"] == pytest.approx(
        value["frames at the source"] / value["rate"] / value["efficiency"] / 3600
    )


def test_wall_time_is_the_sum_of_its_parts(factors, found):
    parts = ["walking and opening the files", "planning", "building", "folding the catalog"]
    assert factors["wall time"].value == pytest.approx(sum(factors[name].value for name in parts))
    # 32 shards on 500 cores: one after nothing else.
    assert factors["building"].value == pytest.approx(factors["core-hours"].value / found["plan"]["shards"])


def test_storage_is_the_sum_of_its_parts(factors):
    parts = ["frames", "rows in shards", "catalog", "plan and keys"]
    assert factors["storage"].value == pytest.approx(sum(factors[name].value for name in parts))
    assert factors["frames"].value == pytest.approx(2.0 * factors["bytes of a frame"].value)
    assert 148 < factors["bytes of a frame"].value < 152  # 36 floats and 4 bytes, and the last chunk's padding


def test_every_factor_says_where_it_comes_from(factors):
    assert {factor.origin for factor in factors.values()} == {"given", "measured", "assumed", "follows"}
    assert factors["rate"].origin == "given"  # by this rehearsal


def test_building_takes_as_long_as_the_scheduler_does_where_that_is_longer(found):
    slow = copy.deepcopy(found)
    slow["schedule"]["busy_ms"] = 3.6e6
    building = next(f for f in estimate(slow, frames=FRAMES, clips=CLIPS, cores=10**6) if f.name == "building")
    assert building.value == found["plan"]["shards"]  # an hour each, one after another


def test_overheads_follow_from_times_per_task(found):
    known = copy.deepcopy(found)
    known["schedule"] |= {"wall_ms": 10.0, "busy_ms": 4.0}
    # A shard is 200,000 frames: 5 s at 40,000 frames per second.
    assert workers_fed(known) == pytest.approx(1250) and workers_fed(known, 0.02) == pytest.approx(25)
    assert overhead_fraction(known, 2) == pytest.approx(0.02 / 5.02)


def test_the_figures_begin_with_those_that_have_bars(found):
    first = ["plan_rss_mb", "plan_seconds", "open_seconds", "draw_ms_per_1024", "scheduler_overhead_fraction"]
    assert list(figures(found, 2))[:5] == first


# --- the command


def test_loom_rehearse_ends_well_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rehearsing, "run_alone", measured)
    code = cli.main(
        ["rehearse", "--frames", "1e6", "--cores", "64", "--frames-per-core-second", "40000", "--work", str(tmp_path)]
    )
    told = capsys.readouterr().out
    assert code == 0 and not list(tmp_path.iterdir())
    assert "2,500 clips, 1,000,000 frames" in told and "To build it with 64 cores" in told and "core-hours" in told


def test_a_rehearsal_that_fails_leaves_nothing_either(tmp_path, monkeypatch, capsys):
    def fails(function, *arguments):
        raise MotionloomError("no more")

    monkeypatch.setattr(rehearsing, "run_alone", fails)
    assert cli.main(["rehearse", "--frames", "1e6", "--work", str(tmp_path)]) == 1
    assert "no more" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_full_disk_is_noticed_before(tmp_path):
    with pytest.raises(MotionloomError, match="MiB of disk are free; this rehearsal takes about"):
        rehearse(Rehearsal(frames=10**13, clips=10**12), tmp_path, run=measured)


@pytest.mark.parametrize("frames", ["0", "many", "1e99", "nan"])
def test_sizes_that_are_none_are_refused(frames, capsys):
    with pytest.raises(SystemExit):
        cli.main(["rehearse", "--frames", frames])
    assert "--frames" in capsys.readouterr().err
