"""How the headline number is made up: every stage by hand, and books that do not balance."""

from __future__ import annotations

import polars as pl
import pytest

from corpus import schema
from corpus.augment import Augment
from corpus.errors import CorruptShard
from corpus.ledger import ledger


def clip(name: str, source: str = "amass", **changed) -> dict:
    row = {"clip": name, "source": source, "path": f"{name}.npz", "licence": source.upper(), "status": "kept"}
    numbers = {"source_fps": 100.0, "source_frames": 2001, "frames": 1001, "frames_kept": 700}
    return row | numbers | {"frames_rejected": 200, "frames_cut": 101} | changed


NOTHING = {"status": "rejected", "frames": 0, "frames_kept": 0, "frames_rejected": 0, "frames_cut": 0}
CLIPS = [
    clip("a"),
    clip("b", frames_kept=0, frames_rejected=900, status="rejected"),
    clip("unreadable", **NOTHING, source_fps=None, source_frames=None),
    clip("short", **NOTHING, source_frames=3),
    # The same bytes as a, read by another source: a row, and nothing in it.
    clip("a", "bvh", **NOTHING, source_fps=None, source_frames=None),
    clip("c", "bvh", source_fps=50.0, source_frames=1001, frames_kept=1001, frames_rejected=0, frames_cut=0),
]
SEGMENTS = [
    {"clip": "a", "status": "kept", "frames": 301, "speed_use": 0.5},
    {"clip": "a", "status": "kept", "frames": 399, "speed_use": 0.95},
    {"clip": "a", "status": "rejected", "frames": 200, "speed_use": 0.5},
    {"clip": "c", "status": "kept", "frames": 1001, "speed_use": 0.7},
]


def tables(clips=CLIPS, segments=SEGMENTS) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    made = []
    for rows, table in ((clips, schema.CLIPS), (segments, schema.SEGMENTS)):
        kinds = pl.from_arrow(table.empty_table()).schema
        made.append(pl.DataFrame([{name: row.get(name) for name in kinds} for row in rows], kinds).lazy())
    return made[0], made[1]


def test_every_stage_is_counted_by_source_and_licence():
    book = ledger(*tables(), 50.0, Augment(mirror=0.5, speeds=(1.0, 1.25)))
    amass, bvh = book.rows.to_dicts()
    assert amass == {
        "source": "amass", "licence": "AMASS", "clips": 4, "clips_loaded": 3, "clips_retargeted": 2, "clips_passed": 1,
        "clips_unique": 1,
        # Three frames at 100 Hz are two at 50 Hz: they were read, and were too few to be a motion.
        "frames_loaded": 2 * 1001 + 2, "frames": 2002, "frames_kept": 700, "frames_rejected": 1100, "frames_cut": 202,
        "frames_unique": 700,
        # 301 frames may be hurried to 1.25 times their speed (240 intervals of 1.25), 399 may not.
        "frames_virtual": 2 * (301 + 241 + 399),
    }  # fmt: skip
    assert (bvh["clips"], bvh["clips_loaded"], bvh["frames_virtual"]) == (2, 1, 2 * (1001 + 801))
    assert book.total["frames_virtual"] == amass["frames_virtual"] + bvh["frames_virtual"]
    assert book.lines()[-1]["source"] == "all" and book.lines()[-1]["clips"] == 6


def test_each_stage_is_part_of_the_one_before():
    stages = list(ledger(*tables(), 50.0).stages())
    assert [stage.name for stage in stages] == ["source", "loaded", "retargeted", "passed", "unique", "virtual"]
    clips = [stage.clips for stage in stages[:-1] if stage.clips is not None]
    frames = [stage.frames for stage in stages[1:-1] if stage.frames is not None]
    assert clips == sorted(clips, reverse=True) and frames == sorted(frames, reverse=True)
    assert len(clips) == 5 and len(frames) == 4 and stages[0].frames is None and stages[-1].clips is None
    assert stages[1].gone == "2 clips not read" and stages[3].gone == "1,100 frames rejected, 202 cut away"


def test_an_empty_corpus_has_an_empty_ledger():
    book = ledger(*tables([], []), 50.0)
    assert book.rows.is_empty() and set(book.total.values()) == {0} and len(list(book.stages())) == 6


def test_a_clip_that_gave_nothing_but_rejects_counts_no_virtual_frames():
    book = ledger(*tables([CLIPS[1]], []), 50.0)
    assert book.total["frames_virtual"] == 0 == book.total["clips_passed"]


@pytest.mark.parametrize("column", ["frames", "frames_kept", "frames_rejected", "frames_cut"])
def test_a_ledger_that_does_not_add_up_is_an_error_that_names_the_clip(column):
    wrong = [*CLIPS[:-1], CLIPS[-1] | {column: CLIPS[-1][column] + 1}]
    with pytest.raises(CorruptShard, match=r"does not add up for 1 clips, such as bvh:c\.npz"):
        ledger(*tables(wrong), 50.0)


def test_two_wrongs_in_one_source_do_not_make_a_right():
    """The sums of the source agree; its clips do not."""
    shifted = [CLIPS[0] | {"frames_cut": 106}, CLIPS[1] | {"frames_cut": 96}, *CLIPS[2:]]
    with pytest.raises(CorruptShard, match="for 2 clips"):
        ledger(*tables(shifted), 50.0)


def test_negative_frames_do_not_balance_the_books():
    wrong = [CLIPS[0] | {"frames_kept": -200, "frames_cut": 1001}, *CLIPS[1:]]
    with pytest.raises(CorruptShard, match=r"for 1 clips.* 1001 frames ≠ -200 kept"):
        ledger(*tables(wrong), 50.0)


def test_copies_count_neither_as_unique_nor_as_virtual():
    segments = [{**row, "segment": f"s{number}"} for number, row in enumerate(SEGMENTS)]
    augment = Augment(mirror=0.0, speeds=(1.0,))
    copies = pl.LazyFrame({"segment": ["s0", "s3"]})
    book = ledger(*tables(segments=segments), 50.0, augment, copies=copies)
    amass, bvh = book.rows.to_dicts()
    assert (amass["clips_unique"], amass["frames_unique"], amass["frames_virtual"]) == (1, 399, 399)
    assert (bvh["clips_unique"], bvh["frames_unique"], bvh["frames_virtual"]) == (0, 0, 0)
    assert (bvh["clips_passed"], bvh["frames_kept"]) == (1, 1001)
    unique = next(stage for stage in book.stages() if stage.name == "unique")
    assert unique.gone == "1,302 frames of segments that are copies of others" and unique.clips == 1
    nothing = ledger(*tables(segments=segments), 50.0, augment, copies=copies.clear())
    assert nothing.total["frames_unique"] == nothing.total["frames_kept"] == 1701
