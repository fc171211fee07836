"""The embedded corpus: rows are the corpus's kept segments, and what does not fit together is refused."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest
from small_corpus import write_small_shard

from corpus.catalog import Corpus, fold
from corpus.errors import MotionloomError
from hme.space import Space, ids, set_default
from hme.tables import read_segment_table, write_segment_table


def test_rows_are_the_kept_segments_in_their_order(space):
    found = space.embedder.embed([space.corpus.motion(i) for i in range(space.corpus.kept.height)])
    # Matrix products of other batches round differently.
    np.testing.assert_allclose(space.vectors, found.vectors, atol=1e-6)
    np.testing.assert_allclose(space.frequency, found.frequency, rtol=1e-6)
    np.testing.assert_array_equal(space.padded, found.padded)
    assert set(space.block_names) == set(found.blocks)
    for name in space.block_names:
        np.testing.assert_allclose(space.block(name), found.blocks[name], atol=1e-6)


def test_unknown_names_list_what_there_is(space):
    with pytest.raises(MotionloomError, match=r"No block 'mood'. Known: mean, spread, pose, velocity"):
        space.block("mood")
    with pytest.raises(MotionloomError, match=f"no embedder 0123. Known: {space.hme_id}"):
        Space.open(space.corpus, "0123")


def test_without_an_embedding_the_command_is_named(tmp_path, space):
    out = tmp_path / "bare"
    shutil.copytree(space.corpus.path, out, ignore=shutil.ignore_patterns("hme"))
    with pytest.raises(MotionloomError, match="loom embed"):
        Space.open(Corpus.open(out))


def test_a_shard_that_is_not_embedded_is_noticed(space):
    space.path("shards", f"{space.corpus.shard_ids[0]}.arrow").unlink()
    with pytest.raises(MotionloomError, match=f"1 of {len(space.corpus.shard_ids)} shards are not embedded"):
        Space.open(space.corpus)


def test_vectors_of_another_shard_are_noticed(space):
    a, b = (space.path("shards", f"{shard}.arrow") for shard in space.corpus.shard_ids[:2])
    shutil.copy(a, b)
    with pytest.raises(MotionloomError, match="tells of other segments"):
        _ = Space.open(space.corpus).vectors


def test_vectors_of_another_embedder_are_noticed(space):
    other = space.path().with_name("fedcba9876543210")
    shutil.copytree(space.path(), other)
    assert ids(space.corpus) == sorted([space.hme_id, other.name])
    with pytest.raises(MotionloomError, match=f"vectors of the embedder {space.hme_id}"):
        _ = Space.open(space.corpus, other.name).vectors
    set_default(space.corpus, other.name)
    with pytest.raises(MotionloomError, match=f"holds the embedder {space.hme_id}"):
        _ = Space.open(space.corpus).embedder


def test_a_table_follows_the_corpus_as_it_grows(space):
    corpus, path = space.corpus, space.corpus.path / "hme" / "table.parquet"
    write_segment_table(corpus, path, pl.DataFrame({"x": np.arange(corpus.kept.height)}), about={"seed": "3"})
    before = read_segment_table(corpus, path, command="loom x")
    assert before["segment"].to_list() == corpus.kept["segment"].to_list()
    about = (corpus.path / "corpus.json").read_text()
    recipe = corpus.about["recipe_hash"]
    shard = write_small_shard(corpus.path / "shards", "00000000000000ab")
    text = (shard / "shard.json").read_text().replace("0123456789abcdef0123456789abcdef", recipe)
    (shard / "shard.json").write_text(text)
    fold(corpus.path)
    assert (corpus.path / "corpus.json").read_text() == about
    grown = Corpus.open(corpus.path)
    with pytest.raises(MotionloomError, match=r"1 kept segments that table.parquet does not know: run `loom x`"):
        read_segment_table(grown, path, command="loom x")
    after = read_segment_table(grown, path, command="loom x", complete=False)
    assert after["segment"].to_list() == grown.kept["segment"].to_list()
    assert after["x"].null_count() == 1
    assert after.join(before, on=["segment", "x"]).height == before.height


def test_a_table_of_the_wrong_length_or_embedder_is_refused(space):
    path = space.path("table.parquet")
    with pytest.raises(ValueError, match="1 rows for"):
        write_segment_table(space.corpus, path, pl.DataFrame({"x": [1]}))
    write_segment_table(
        space.corpus, path, pl.DataFrame({"x": np.zeros(space.corpus.kept.height)}), hme_id=space.hme_id
    )
    with pytest.raises(MotionloomError, match="not other"):
        read_segment_table(space.corpus, path, command="loom x", hme_id="other")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(MotionloomError, match="damaged"):
        read_segment_table(space.corpus, path, command="loom x")


def test_a_file_of_another_kind_is_no_table(space):
    path = space.path("clusters.parquet")
    pl.DataFrame({"a": [1]}).write_parquet(path)
    with pytest.raises(MotionloomError, match="no table about a corpus's segments: delete it and run `loom cluster`"):
        read_segment_table(space.corpus, path, command="loom cluster")
    path.unlink()
