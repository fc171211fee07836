"""`loom dedup` and `loom split` on small corpora: resumed, grown, torn, and against a split that knows nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from wandering import elsewhere, in_the_mirror, noisy, retimed, still, wandering, write_corpus

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from hme.duplicates.find import DuplicateOptions
from hme.duplicates.tables import pairs_path, read_duplicates, read_pairs, table_path, unique_segments
from hme.split import SplitOptions, leakage
from pipelines import dedup as module
from pipelines import dedup_tasks
from pipelines import split as split_module
from pipelines.cli import main
from pipelines.cluster import Cluster
from pipelines.dedup import dedup
from pipelines.dedup_report import by_kind, by_sources
from pipelines.split import read_split, split

INLINE = Cluster("inline")
ONE = [wandering(8, seed) for seed in range(6)]
TWO = [
    noisy(ONE[0]), elsewhere(in_the_mirror(ONE[1])), retimed(ONE[2], 1.1), ONE[3].slice(60, 260), wandering(8, 50),
    wandering(8, 51),
]  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Two shards: one source's motions, and another's, four of which are copies."""
    shards = {
        "11": [(f"robot/one{i}", motion) for i, motion in enumerate(ONE)],
        "22": [(f"phuma/two{i}", motion) for i, motion in enumerate(TWO)],
    }
    return write_corpus(tmp_path_factory.mktemp("dedup") / "corpus", shards)


@pytest.fixture(scope="module")
def compared(built, tmp_path_factory) -> Path:
    out = Path(shutil.copytree(built, tmp_path_factory.mktemp("compared") / "corpus"))
    assert dedup(out, cluster=INLINE).done_now
    return out


@pytest.fixture
def corpus(compared, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(compared, tmp_path / "corpus"))


def test_copies_across_sources_are_told_with_what_is_kept(compared):
    opened = Corpus.open(compared)
    told = read_duplicates(opened)
    left_out = told.filter(~pl.col("keeper"))
    assert sorted(left_out["kind"].to_list()) == ["chunk", "mirrored", "noisy", "retimed"]
    assert unique_segments(opened).sum() == 8
    names = told["segment"].to_list()
    assert [names.index(of) for of in left_out.filter(kind="chunk")["of"]] == [3]
    assert told["group"].drop_nulls().n_unique() == 4
    assert by_sources(opened).select("source", "other", "pairs").unique().rows() == [("phuma", "robot", 1)]
    assert by_kind(opened)["frames"].sum() == opened.frames.sum()


def test_a_rerun_has_nothing_to_do_and_other_options_decide_anew(corpus):
    assert not dedup(corpus, cluster=INLINE).done_now
    anew = dedup(corpus, DuplicateOptions(threshold=0.002, stretch=0.0), cluster=INLINE)
    assert anew.done_now
    assert read_duplicates(anew.corpus)["keeper"].sum() > 8


def test_the_same_corpus_gives_the_same_bytes(built, compared, tmp_path):
    again = Path(shutil.copytree(built, tmp_path / "again"))
    dedup(again, cluster=INLINE)
    for path in (table_path, pairs_path):
        assert path(Corpus.open(again)).read_bytes() == path(Corpus.open(compared)).read_bytes()


def test_parts_that_exist_are_not_made_again(built, tmp_path, monkeypatch):
    """Killed in the search's second part, a run goes on there."""
    out = Path(shutil.copytree(built, tmp_path / "corpus"))
    monkeypatch.setattr(module, "TASK_ANCHORS", 1)
    done, search = [], module.find_pairs

    def failing(task):
        if done:
            raise RuntimeError("no memory")
        done.append(task["out"])
        return search(task)

    monkeypatch.setattr(module, "find_pairs", failing)
    first = dedup(out, cluster=INLINE)
    assert not first.complete and not table_path(first.corpus).exists()
    asked = []
    monkeypatch.setattr(module, "find_pairs", lambda task: (asked.append(task["out"]), search(task))[1])
    monkeypatch.setattr(module, "anchor_shard", None)
    assert dedup(out, cluster=INLINE).complete
    assert asked and done[0] not in asked
    assert unique_segments(Corpus.open(out)).sum() == 8


def test_chains_are_closed_by_comparing_what_is_kept(tmp_path):
    """B is longer than A and holds a chunk that both A and C hold; the search is told to miss A and C."""
    whole = wandering(20, 7)
    motions = [("a", whole.slice(0, 700)), ("b", whole.slice(100, 600)), ("c", whole.slice(50, 650))]
    out = write_corpus(tmp_path / "corpus", {"11": motions})
    opened = dedup(out, cluster=INLINE).corpus
    pairs = read_pairs(opened)
    lacking = pairs.filter(~((pl.col("a") == 0) & (pl.col("b") == 2)))
    assert len(lacking) == len(pairs) - 1
    found, verdict = module.finish(lacking, opened, DuplicateOptions())
    assert len(found) == len(pairs)
    assert verdict["keeper"].to_list() == [True, False, False]


def test_a_corpus_that_has_grown_is_compared_again_with_the_anchors_there_are(corpus, monkeypatch):
    write_corpus(corpus, {"33": [("phuma/three", noisy(TWO[4]))]})
    with pytest.raises(MotionloomError, match="loom dedup"):
        read_duplicates(Corpus.open(corpus))
    made, anchors = [], dedup_tasks.anchor_shard
    monkeypatch.setattr(module, "anchor_shard", lambda task: (made.append(task["out"]), anchors(task))[1])
    opened = dedup(corpus, cluster=INLINE).corpus
    assert [Path(path).name for path in made] == ["33.npz"]
    assert unique_segments(opened).sum() == 8


def test_shards_in_which_nothing_moves_are_kept_as_they_are(corpus):
    write_corpus(corpus, {"00": [("robot/still", still(6, 1)), ("robot/still again", still(6, 1))]})
    opened = dedup(corpus, cluster=INLINE).corpus
    assert read_duplicates(opened)["keeper"][:2].all()
    assert unique_segments(opened).sum() == 10


def test_damaged_anchors_are_named(corpus):
    write_corpus(corpus, {"33": [("phuma/three", noisy(TWO[4]))]})
    path = next((corpus / "hme" / "duplicates").glob("*/11.npz"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(MotionloomError, match=r"11.npz is damaged .* delete it"):
        dedup(corpus, cluster=INLINE)


def test_workers_find_what_one_process_finds(built, compared, tmp_path):
    out = Path(shutil.copytree(built, tmp_path / "corpus"))
    assert dedup(out, cluster=Cluster(workers=2)).complete
    assert table_path(Corpus.open(out)).read_bytes() == table_path(Corpus.open(compared)).read_bytes()


def test_our_split_leaks_nothing_and_one_by_recordings_does(compared, tmp_path):
    opened = Corpus.open(Path(shutil.copytree(compared, tmp_path / "corpus")))
    options = SplitOptions((0.5, 0.25, 0.25))
    done = split(opened, options)
    assert done.leaks.is_empty() and not done.by_cluster
    told = read_split(opened)
    assert set(told["split"].to_list()) == {"train", "validation", "test"}
    # Control: every recording has its own part, and copies have other recordings.
    pairs = read_pairs(opened)
    rng = np.random.default_rng(0)
    assert max(len(leakage(pairs, rng.integers(0, 3, 12))) for _ in range(5)) > 0


def test_clusters_are_divided_evenly_where_there_are_some(compared, tmp_path, monkeypatch):
    opened = Corpus.open(Path(shutil.copytree(compared, tmp_path / "corpus")))
    cluster = np.arange(12) % 2
    monkeypatch.setattr(split_module, "Space", SimpleNamespace(open=lambda *_: None))
    monkeypatch.setattr(split_module, "read_clusters", lambda _: cluster)
    done = split(opened, SplitOptions((0.5, 0.5, 0.0)))
    assert done.by_cluster
    of_cluster = [done.table.filter(cluster == number)["split"].to_list() for number in (0, 1)]
    assert all({"train", "validation"} <= set(parts) for parts in of_cluster)


def test_the_longer_is_kept_then_the_cleaner_then_the_first_by_name():
    measures = {"foot_slide": np.array([0.3, 0.1, 0.0, 0.1, 0.1]), "penetration": np.array([0.0, 0.0, 0.02, 0.0, 0.0])}
    made_up = SimpleNamespace(
        measure=measures.__getitem__,
        kept=pl.DataFrame({"segment": ["a", "d", "b", "c", "e"]}),
        frames=np.array([100, 100, 100, 100, 101]),
    )
    assert module.rank_of(made_up).tolist() == [4, 2, 3, 1, 0]


def test_a_split_needs_duplicates_to_be_known(built, tmp_path):
    with pytest.raises(MotionloomError, match="loom dedup"):
        split(Corpus.open(Path(shutil.copytree(built, tmp_path / "corpus"))))


def test_growth_moves_no_segment_to_another_part(corpus):
    options = SplitOptions((0.5, 0.25, 0.25))
    before = split(Corpus.open(corpus), options).table.select("segment", "split")
    bridge = np.concatenate([ONE[4].qpos[:300], ONE[5].qpos[:300]])
    news = [
        ("robot/one0", wandering(8, 70)),
        ("phuma/bridge", type(ONE[4])(bridge, 50.0)),
        ("phuma/new", wandering(8, 71)),
    ]
    write_corpus(corpus, {"33": news})
    opened = dedup(corpus, cluster=INLINE).corpus
    done = split(opened, options)
    assert done.kept_count == 12
    after = dict(done.table.select("segment", "split").iter_rows())
    assert all(after[name] == part for name, part in before.iter_rows())
    part = done.table["split"].to_list()
    assert part[12] == part[0]
    expected = part[4] if part[4] == part[5] else "withheld"
    assert part[13] == expected
    assert done.leaks.is_empty()
    with pytest.raises(MotionloomError, match="split already"):
        split(opened, SplitOptions((0.6, 0.2, 0.2)))
    assert split(opened, SplitOptions((0.6, 0.2, 0.2)), anew=True).kept_count == 0


def test_the_commands_tell_what_they_found(corpus, capsys):
    assert main(["dedup", str(corpus), "--scheduler", "inline", "--list", "2"]) == 0
    told = capsys.readouterr().out
    assert "nothing to do" in told and "mirrored" in told and "phuma" in told
    assert main(["split", str(corpus), "--shares", "0.6", "0.2", "0.2"]) == 0
    assert "pairs of like motions that lie in different parts: 0" in capsys.readouterr().out
    assert main(["split", str(corpus), "--shares", "0.6", "0.2", "0.3"]) == 1
    capsys.readouterr()
    assert main(["split", str(corpus), "--shares", "0.99", "0.01", "0", "--anew"]) == 0
    assert "nothing is left for validation: " in capsys.readouterr().out


def test_where_nothing_moves_nothing_is_a_copy(tmp_path, capsys):
    from pipelines.build import build

    (tmp_path / "files").mkdir()
    for seed in range(2):
        qpos = np.zeros((120, 36))
        qpos[:, 2], qpos[:, 3], qpos[:, 6] = 0.793, np.cos(0.75), np.sin(0.75)
        qpos[:, 7 + 15 + seed] = 0.2
        np.savetxt(tmp_path / "files" / f"{seed}.csv", qpos[:, [0, 1, 2, 4, 5, 6, 3, *range(7, 36)]], delimiter=",")
    build({"robot": tmp_path / "files"}, tmp_path / "corpus", scheduler="inline")
    assert len(Corpus.open(tmp_path / "corpus").frames) == 2
    assert main(["dedup", str(tmp_path / "corpus"), "--scheduler", "inline"]) == 0
    assert unique_segments(Corpus.open(tmp_path / "corpus")).all()
    assert main(["dedup", str(tmp_path / "corpus"), "--scheduler", "inline"]) == 0
    assert "nothing to do" in capsys.readouterr().out
