"""The scaling harness: subsets nest, no recording is torn, and a run that is done is not done again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from corpus.errors import MotionloomError
from trainer.run_log import read_lines
from trainer.scaling import nested_subsets, run_grid, validation_part
from trainer.scaling_fit import FitOptions
from trainer.scaling_law import Law
from trainer.scaling_report import report, summary, table

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
SIZES = {"tiny": 10_000, "small": 40_000, "large": 160_000}
LAW = Law(E=0.02, A=4.0, alpha=0.5, B=12.0, beta=0.4)
QUICK = FitOptions(bootstraps=10)


@pytest.fixture(scope="module")
def segments() -> tuple[list[str], np.ndarray]:
    """Two thousand segments of seven hundred takes."""
    rng = np.random.default_rng(0)
    return [f"take {number}" for number in rng.integers(700, size=2000)], rng.integers(50, 500, 2000)


def test_each_subset_lies_within_the_next_and_holds_its_share(segments):
    recording, frames = segments
    parts = nested_subsets(recording, frames, SHARES[::-1])
    assert [part.share for part in parts] == list(SHARES)
    for smaller, larger in pairwise(parts):
        assert set(smaller.segments) < set(larger.segments)
    for part in parts:
        assert part.frames == frames[part.segments].sum()
        assert part.frames / frames.sum() == pytest.approx(part.share, abs=0.002)
    assert len(parts[-1].segments) == 2000


def test_no_recording_is_torn(segments):
    recording, frames = segments
    for part in nested_subsets(recording, frames, SHARES):
        held = {recording[number] for number in part.segments}
        assert len(held) == part.recording_count
        assert len(part.segments) == sum(name in held for name in recording)


def test_subsets_are_those_of_the_names_and_the_seed(segments):
    recording, frames = segments
    first, again = (nested_subsets(recording, frames, (0.3,))[0] for _ in range(2))
    assert first.stamp == again.stamp
    order = np.random.default_rng(1).permutation(2000)
    turned = nested_subsets([recording[i] for i in order], frames[order], (0.3,))[0]
    assert set(order[turned.segments]) == set(first.segments)
    assert nested_subsets(recording, frames, (0.3,), seed=1)[0].stamp != first.stamp


def test_validation_shares_no_recording_with_any_subset(segments):
    recording, frames = segments
    validation = validation_part(recording, frames, share=0.1)
    assert frames[validation].sum() / frames.sum() == pytest.approx(0.1, abs=0.005)
    whole = nested_subsets(recording, frames, (1,), among=~validation)[0]
    assert not {recording[i] for i in whole.segments} & {recording[i] for i in np.flatnonzero(validation)}
    assert len(whole.segments) + validation.sum() == 2000


def test_shares_that_recordings_cannot_tell_apart_are_refused():
    with pytest.raises(MotionloomError, match=r"0\.0625 and 0\.125 of 4 recordings are the same 1"):
        nested_subsets(list("abcd"), np.full(4, 100), SHARES)
    for shares in ((), (0.5, 0.5), (0, 1), (2,)):
        with pytest.raises(MotionloomError, match="different numbers above 0"):
            nested_subsets(list("abcd"), np.full(4, 100), shares)
    with pytest.raises(MotionloomError, match="no segments"):
        nested_subsets(list("ab"), np.full(2, 100), (1,), among=np.zeros(2, bool))
    with pytest.raises(MotionloomError, match="One recording"):
        validation_part(["a", "a"], np.full(2, 100))


class Planted:
    """Gives a planted law's loss and counts what it is asked for."""

    def __init__(self, frames: np.ndarray):
        self.frames, self.asked = frames, []

    def __call__(self, size, segments, seed, folder) -> dict[str, float]:
        self.asked.append(folder.name)
        noise = np.exp(0.01 * np.random.default_rng([seed, len(self.asked)]).normal())
        return {"loss": LAW.at(SIZES[size], self.frames[segments].sum()) * noise, "success": 0.5}


def test_a_finished_run_is_not_done_again_and_a_grid_may_grow(tmp_path, segments):
    parts = nested_subsets(*segments, SHARES)
    train = Planted(segments[1])
    first = run_grid(tmp_path, {"tiny": 10_000}, parts[:2], (0, 1), train)
    assert train.asked == ["tiny_0.0625_0", "tiny_0.0625_1", "tiny_0.125_0", "tiny_0.125_1"]
    assert run_grid(tmp_path, {"tiny": 10_000}, parts[:2], (0, 1), train) == first
    assert len(train.asked) == 4
    more = run_grid(tmp_path, SIZES, parts[:2], (0, 1), train)
    assert len(train.asked) == len(more) == 12
    assert [row["parameters"] * row["frames"] for row in more] == sorted(
        row["parameters"] * row["frames"] for row in more
    )


def test_rows_of_other_data_or_options_are_refused(tmp_path, segments):
    parts, train = nested_subsets(*segments, (0.5,)), Planted(segments[1])
    run_grid(tmp_path, {"tiny": 10_000}, parts, (0,), train, about={"steps": 100})
    with pytest.raises(MotionloomError, match=r"made with about .*'steps': 100.*now .*'steps': 200"):
        run_grid(tmp_path, {"tiny": 10_000}, parts, (0,), train, about={"steps": 200})
    with pytest.raises(MotionloomError, match=r"made with .*segments"):
        run_grid(
            tmp_path, {"tiny": 10_000}, nested_subsets(*segments, (0.5,), seed=1), (0,), train, about={"steps": 100}
        )
    with pytest.raises(MotionloomError, match=r"gave success, but no loss"):
        run_grid(tmp_path, {"small": 1}, parts, (0,), lambda *_: {"success": 1.0})


GRID = """
import sys, time
from pathlib import Path
import numpy as np
from trainer.scaling import nested_subsets, run_grid

def train(size, segments, seed, folder):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "begun").open("a") as file:
        file.write("x")
    time.sleep(0.05)
    return {"loss": len(segments) + seed}

parts = nested_subsets([str(i) for i in range(64)], np.full(64, 10), (0.25, 0.5, 1))
print("ready", flush=True)
rows = run_grid(Path(sys.argv[1]), {"a": 1, "b": 2}, parts, (0, 1), train)
print(len(rows))
"""


def test_after_a_kill_the_same_call_does_the_rest(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", GRID, str(tmp_path)], stdout=subprocess.PIPE)
    while len(read_lines(tmp_path / "scaling.jsonl", "job")) < 4:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with (tmp_path / "scaling.jsonl").open("a") as file:
        file.write('{"job": "b_1_1", "lo')  # as if it had been killed while writing
    again = subprocess.run([sys.executable, "-c", GRID, str(tmp_path)], capture_output=True, text=True, check=True)
    assert again.stdout.split() == ["ready", "12"]
    rows = read_lines(tmp_path / "scaling.jsonl", "job")
    assert len({row["job"] for row in rows}) == len(rows) == 12
    begun = [len(path.read_text()) for path in tmp_path.glob("runs/*/begun")]
    assert sorted(begun) in ([1] * 12, [1] * 11 + [2])  # only the one it was killed in


def test_the_report_tells_law_table_and_picture(tmp_path, segments):
    rows = run_grid(tmp_path, SIZES, nested_subsets(*segments, SHARES), (0, 1), Planted(segments[1]))
    told = report(tmp_path, rows, QUICK)
    assert told.fit is not None
    held = told.fit.held_out
    assert held is not None
    assert held.predicted == pytest.approx(LAW.at(160_000, segments[1].sum()), rel=0.1)
    content = json.loads((tmp_path / "scaling.json").read_text())
    assert content["fit"]["held_out"]["inside"] == held.inside
    assert content["fit"]["law"]["alpha"] == told.fit.law.alpha
    assert len(content["rows"]) == 15
    assert [row["held_out"] for row in content["rows"]].count(True) == 1
    text = (tmp_path / "scaling.txt").read_text()
    assert "L = " in text and "held out: N 160,000" in text
    drawing = ElementTree.fromstring((tmp_path / "scaling.svg").read_text())
    assert len(drawing.findall("{*}circle")) == 16
    assert len(drawing.findall("{*}polyline")) == 3


def test_too_few_runs_give_a_table_and_the_reason(tmp_path, segments):
    train = Planted(segments[1])
    rows = run_grid(tmp_path, {"tiny": 10_000}, nested_subsets(*segments, SHARES), (0,), train)
    told = report(tmp_path, rows, QUICK)
    assert told.fit is None
    assert "3 network sizes" in told.refused
    assert told.refused in (tmp_path / "scaling.txt").read_text()
    assert json.loads((tmp_path / "scaling.json").read_text())["fit"] is None


def test_runs_that_diverged_are_counted_and_left_out(tmp_path, segments):
    parts = nested_subsets(*segments, SHARES)
    rows = run_grid(tmp_path, SIZES, parts, (0,), lambda *_: {"loss": float("nan")})
    told = summary(rows, QUICK)
    assert (told.diverged, told.rows, told.fit) == (15, [], None)
    assert "15 runs diverged" in table(told)
    assert report(Path(tmp_path), rows).refused
