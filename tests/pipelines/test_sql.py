"""SQL reads a corpus's tables, and nothing else in any way."""

from __future__ import annotations

from pathlib import Path

import pytest
from asked_corpus import write_catalog, write_embedding, write_tables

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from pipelines import cli, sql

pytest.importorskip("duckdb")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    out = write_catalog(tmp_path_factory.mktemp("it's") / "corpus")
    opened = write_embedding(out)
    write_tables(opened)
    return opened


def test_every_table_is_there_and_joins_by_segment(corpus):
    text = "select count(*), sum(frames), max(speed) from kept " + " ".join(
        f"join {name} using (segment)" for name in ("traits", "clusters", "duplicates", "split")
    )
    (count, frames, speed), *_ = sql.query(corpus, text).rows()
    assert (count, frames, speed) == (4, 1700, pytest.approx(1.2))
    assert sql.query(corpus, "select count(*) from segments").item() == 6
    assert sql.query(corpus, "select count(*) from clips where source = 'bvh'").item() == 3


def test_tables_that_do_not_exist_are_no_views(tmp_path):
    bare = Corpus.open(write_catalog(tmp_path / "corpus"))
    with pytest.raises(MotionloomError, match="Tables: clips, kept, segments"):
        sql.query(bare, "select * from clusters")


@pytest.mark.parametrize(
    "text",
    [
        "copy (select 1) to '{out}'",
        "copy clips to '{catalog}' (use_tmp_file false)",
        "select * from read_text('/etc/passwd')",
        "select * from '/etc/passwd'",
        "select * from glob('/*')",
        "select * from read_parquet('{other}')",
        "attach '{out}'",
        "install httpfs",
        "load httpfs",
        "set enable_external_access=true",
        "set lock_configuration=false",
        "create table t as select 1",
        "drop view clips",
        "select 1; select 2",
        "with a as (select 1) insert into clips select * from a",
        "export database '{out}'",
        "pragma version",
        "selec",
        "",
    ],
)
def test_whatever_is_no_question_to_the_tables_is_refused(corpus, tmp_path, text):
    catalog, other = corpus.path / "catalog" / "clips-00000.parquet", corpus.path / "shards" / "11" / "clips.parquet"
    before = catalog.read_bytes()
    assert other.exists()
    with pytest.raises(MotionloomError):
        sql.query(corpus, text.format(out=tmp_path / "x", catalog=catalog, other=other))
    assert not list(tmp_path.iterdir()) and catalog.read_bytes() == before


def test_the_lock_holds_even_for_what_is_no_select(corpus, tmp_path):
    import duckdb

    with duckdb.connect(":memory:") as base:
        sql._open(base, corpus, None)
        for text in (
            f"copy (select 1) to '{tmp_path / 'x'}'",
            "set lock_configuration=false",
            "set allowed_paths=['/etc/passwd']",
            f"attach '{tmp_path / 'y'}'",
        ):
            with pytest.raises(duckdb.Error):
                base.execute(text)


def test_the_command_prints_rows_and_writes_the_table(corpus, tmp_path, capsys):
    out: Path = tmp_path / "t.csv"
    assert (
        cli.main(["sql", str(corpus.path), "select segment from kept order by 1", "--rows", "2", "--csv", str(out)])
        == 0
    )
    printed = capsys.readouterr().out
    assert "a1a1a1a1a1a1a1a1-000000" in printed and "2 more rows" in printed
    assert len(out.read_text().splitlines()) == 5


def test_without_duckdb_the_error_names_the_extra(corpus, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(MotionloomError, match=r"motionloom\[sql\]"):
        sql.query(corpus, "select 1")


def test_a_damaged_table_is_told_in_a_line(tmp_path):
    opened = write_embedding(write_catalog(tmp_path / "corpus"))
    write_tables(opened)
    (opened.path / "hme" / "split.parquet").write_bytes(b"PAR1")
    with pytest.raises(MotionloomError, match="delete it and run `loom split` again"):
        sql.query(opened, "select count(*) from kept")


def test_a_name_that_comes_twice_gets_a_number(corpus):
    found = sql.query(corpus, "select 1 as a, 2 as b, 3 as a, 4 as a")
    assert found.row(0) == (1, 2, 3, 4) and found.columns == ["a", "b", "a_1", "a_2"]


def test_what_no_table_holds_and_unknown_embedders_are_told_in_a_line(corpus):
    with pytest.raises(MotionloomError, match="cannot be shown"):
        sql.query(corpus, "select interval 1 day")
    with pytest.raises(MotionloomError, match=r"no embedder nope. Known: "):
        sql.query(corpus, "select 1", hme="nope")


def test_a_wide_table_is_printed_row_by_row(corpus, capsys):
    assert cli.main(["sql", str(corpus.path), "select * from kept order by segment limit 2"]) == 0
    told = capsys.readouterr().out
    assert "row 0\n" in told and "row 1\n" in told
    for name in corpus.kept["segment"].sort()[:2]:
        assert f"segment            {name}" in told or any(
            line.split() == ["segment", name] for line in told.splitlines()
        )
