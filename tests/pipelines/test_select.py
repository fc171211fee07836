"""`loom select` and `loom diversity` on a corpus of made-up numbers: files, filters, masks, what is printed."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from small_corpus import write_small_corpus, write_small_shard

from corpus.catalog import Corpus, fold
from corpus.errors import MotionloomError
from hme.by_source import LEAST_SAMPLE
from hme.diversity import DiversityOptions
from hme.physics_score import TERMS
from hme.select import select
from hme.selections import read_selection, selection_mask
from hme.space import Space, hme_folder
from hme.tables import write_segment_table
from hme.traits import read_traits
from pipelines.cli import main
from pipelines.cluster import Cluster
from pipelines.cluster_corpus import cluster_corpus
from pipelines.diversity import compare, corpus_diversity
from pipelines.embed import embed
from pipelines.select import Budget, Filters, select_corpus

COUNT = 3 * LEAST_SAMPLE
INLINE = Cluster("inline")


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Space:
    out = write_small_corpus(tmp_path_factory.mktemp("select") / "corpus", *(f"{i:02x}" for i in range(COUNT)))
    assert embed(out, cluster=INLINE).complete
    space = Space.open(Corpus.open(out))
    cluster_corpus(space, 4)
    return space


def test_traits_hold_the_terms_of_the_physics_score(space):
    assert set(TERMS) <= set(read_traits(space.corpus).columns)


def test_a_selection_is_a_table_with_the_order_of_the_picks(space):
    done = select_corpus(space, Budget.parse("10%"), name="tenth")
    table = read_selection(space, "tenth")
    assert table.columns == ["segment", "chosen", "order", "distance", "score"]
    assert table["segment"].equals(space.corpus.kept["segment"])
    complexity = read_traits(space.corpus)["complexity"].to_numpy()
    expected = select(space.vectors, complexity, COUNT // 10).order
    assert table.with_row_index().drop_nulls("order").sort("order")["index"].to_list() == expected.tolist()
    assert np.array_equal(selection_mask(space, "tenth"), done.selection.chosen)
    assert table.filter(order=0)["distance"].to_list() == [None]


def test_a_run_again_writes_the_same_bytes(space):
    files = [select_corpus(space, Budget.parse("5"), name="again").path.read_bytes() for _ in range(2)]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("text", "count"), [("10%", 6), ("10% of hours", 6), ("7", 7), ("0.05h", 30), ("200%", COUNT), ("1%", 1)]
)
def test_a_budget_is_of_segments_or_of_hours(space, text, count):
    """Every segment has 300 frames, 6 s."""
    assert len(select_corpus(space, Budget.parse(text), name="some").selection.order) == count


@pytest.mark.parametrize("text", ["", "ten", "0%", "-5%", "5h of hours", "1.2.3", ".", "5 %%", "9" * 400])
def test_another_budget_is_refused(text):
    with pytest.raises(MotionloomError, match="expected, for example, 10%"):
        Budget.parse(text)


def test_filters_leave_out_and_are_counted(space):
    keeper = np.arange(COUNT) % 2 == 0
    write_segment_table(space.corpus, hme_folder(space.corpus) / "duplicates.parquet", pl.DataFrame({"keeper": keeper}))
    done = select_corpus(space, Budget.parse("10%"), name="filtered", filters=Filters(unique=True, sources=("robot",)))
    assert done.dropped == {"other source": 0, "near-duplicates": COUNT // 2}
    assert keeper[done.selection.order].all() and len(done.selection.order) == 6


def test_a_least_physics_score_holds(space):
    score = read_selection(space, select_corpus(space, Budget.parse("100%"), name="all").path.stem)["score"].to_numpy()
    limit = float(np.median(score))
    done = select_corpus(space, Budget.parse("100%"), name="good", filters=Filters(min_score=limit))
    assert score[done.selection.order].min() >= limit
    assert len(done.selection.order) == (score >= limit).sum()


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (Filters(sources=("amass",)), "No kept segments of source 'amass'. Known: 'robot'"),
        (Filters(preset="best"), "No physics score named 'best'. Known: published, contact"),
        (Filters(min_score=101), "no segment is allowed"),
    ],
)
def test_filters_that_cannot_be_met_say_so(space, filters, message):
    with pytest.raises(MotionloomError) as caught:
        select_corpus(space, Budget.parse("10%"), name="none", filters=filters)
    assert message in str(caught.value)


def test_a_selection_that_is_not_there_names_those_that_are(space):
    select_corpus(space, Budget.parse("10%"), name="tenth")
    with pytest.raises(MotionloomError, match=r"no selection 'fifth'. Known: .*tenth"):
        read_selection(space, "fifth")
    with pytest.raises(MotionloomError, match="letters, digits"):
        select_corpus(space, Budget.parse("10%"), name="../tenth")
    with pytest.raises(MotionloomError, match="100 at most"):
        select_corpus(space, Budget.parse("10%"), name="a" * 101)


def test_a_corpus_that_has_grown_asks_for_a_new_selection(tmp_path):
    out = write_small_corpus(tmp_path / "corpus", *(f"{i:02x}" for i in range(5)))
    embed(out, cluster=INLINE)
    select_corpus(Space.open(Corpus.open(out)), Budget.parse("2"), name="two")
    write_small_shard(out / "shards", "ff")
    fold(out)
    embed(out, cluster=INLINE)
    with pytest.raises(MotionloomError, match="1 kept segments that two"):
        read_selection(Space.open(Corpus.open(out)), "two")


def test_diversity_is_told_with_clusters_and_by_source(space):
    options = DiversityOptions(replicates=5)
    found = corpus_diversity(space, options=options) | corpus_diversity(space, by="source", options=options)
    assert list(found) == ["all", "robot"]
    assert 1 < found["all"].effective_clusters.value < 5


def test_a_corpus_against_itself_is_nothing_new(space):
    covered, covers, new = compare(space, space, options=DiversityOptions(replicates=5))
    assert covered.share.value > 0.4 and covers.share.value > 0.4
    assert new.beyond == 0 and abs(new.effective_clusters_gain) < 1e-9


def test_corpora_of_different_embedders_do_not_compare(space):
    with pytest.raises(MotionloomError, match=r"run `loom embed .* --embedder .*embedder.npz`"):
        compare(space, Space(space.corpus, "other"))


def test_the_commands_print_tables(space, capsys):
    out = str(space.corpus.path)
    assert main(["select", out, "--budget", "10%", "--name", "told", "--min-score", "0"]) == 0
    told = capsys.readouterr().out
    assert "chosen" in told and "told.parquet (exact)" in told
    assert main(["diversity", out, "--by", "source", "--against", out]) == 0
    told = capsys.readouterr().out
    for word in ("log-volume", "effective clusters", "covered by", "farther off than half", "width of its kernel"):
        assert word in told
    assert main(["select", out, "--budget", "much"]) == 1
    assert "expected, for example, 10%" in capsys.readouterr().err
