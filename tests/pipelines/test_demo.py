"""The demo goes the whole way on made-up files, tells what it did, and can be run again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from corpus.catalog import Corpus
from corpus.sources.synthetic_demo import HOSTILE_MARK
from pipelines import demo


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> Path:
    """A folder in which the demo has run once."""
    out = tmp_path_factory.mktemp("demo")
    assert demo.main(out) == 0
    return out


def test_every_one_of_the_four_data_sets_gives_motion(shown):
    kept = Corpus.open(shown / "corpus").clips.filter(pl.col("status") == "kept").collect()
    assert set(kept["source"]) == {"amass", "lafan1", "motionx", "phuma"}


def test_every_broken_file_is_a_row_with_its_reason(shown):
    clips = Corpus.open(shown / "corpus").clips.collect()
    broken = clips.filter(pl.col("path").str.contains("(?i)broken") & (pl.col("status") == "rejected"))
    assert len(broken) >= 15
    assert broken["reason"].null_count() == 0
    expected = {
        "not_finite",
        "truncated",
        "unsafe_pickle",
        "outside_source",
        "object_array",
        "absurd_size",
        "duplicate_file",
    }
    assert expected <= set(clips["reason"].drop_nulls())


def test_the_hostile_pickle_did_not_run(shown):
    assert not list(shown.rglob(HOSTILE_MARK))


def test_there_is_a_report_with_pictures(shown):
    page = (shown / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 8
    assert "unsafe_pickle" in page


def test_a_second_run_builds_nothing_and_says_so(shown, capsys):
    before = {path: path.stat().st_mtime_ns for path in (shown / "corpus" / "shards").rglob("*") if path.is_file()}
    assert demo.main(shown) == 0
    assert "nothing to build" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_own_folders_make_their_own_corpus(tmp_path, capsys):
    root = tmp_path / "mine"
    root.mkdir()
    (root / "squat.motion.json").write_text('{"kind": "squat", "seconds": 3}')
    (root / "notes.txt").write_text("not a motion")
    assert demo.main(tmp_path / "out", {"synthetic": root}) == 0
    printed = capsys.readouterr().out
    assert "not_motion" in printed
    assert "velocity 256×64×35 float32" in printed
    assert not (tmp_path / "out" / "corpus").exists()
    assert Corpus.open(tmp_path / "out" / "own-corpus").kept.height == 1


def test_folders_without_any_motion_end_in_a_report_not_in_a_traceback(tmp_path, capsys):
    root = tmp_path / "mine"
    root.mkdir()
    (root / "notes.txt").write_text("not a motion")
    assert demo.main(tmp_path / "out", {"synthetic": root}) == 0
    assert "no batches" in capsys.readouterr().out
    assert "No segment was kept" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_the_core_needs_no_torch():
    code = "import sys, pipelines.demo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(demo.__file__).parents[1], check=False).returncode == 0
