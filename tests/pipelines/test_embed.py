"""A corpus is embedded shard by shard: resumed after a kill, grown without a new fit, checked to the last byte."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from hme.shard_rows import read_shard_rows
from hme.space import Space, default_id, ids
from hme.spectrum import PRESETS, fit
from hme.traits import read_traits
from pipelines import cli, embed, upkeep
from pipelines.build import build
from pipelines.cluster import Cluster
from pipelines.place import locked

pytestmark = pytest.mark.usefixtures("many_shards")
INLINE = Cluster("inline")


def arrow_files(out: Path) -> dict[str, bytes]:
    """Those of the shards."""
    paths = [*(out / "hme").glob("*/shards/*.arrow"), *(out / "hme").glob("traits/*.arrow")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(paths)}


def test_every_kept_segment_gets_a_vector_and_traits(out):
    done = embed.embed(out, cluster=INLINE)
    corpus = Corpus.open(out)
    assert done.complete and done.fitted and done.segment_count == corpus.kept.height > 3
    space = Space.open(corpus)
    assert space.hme_id == done.hme_id == default_id(corpus)
    expected = fit([corpus.motion(i) for i in range(corpus.kept.height)]).embed([corpus.motion(2)]).vectors[0]
    np.testing.assert_allclose(space.vectors[2], expected, atol=1e-5)
    traits = read_traits(corpus)
    assert traits["segment"].to_list() == corpus.kept["segment"].to_list()
    assert traits["standing"].min() == 1 and traits["speed"].max() < 0.05


def test_a_second_run_has_nothing_to_do_and_changes_nothing(out, capsys):
    embed.embed(out, cluster=INLINE)
    before = arrow_files(out)
    assert cli.main(["embed", str(out), "--scheduler", "inline"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert arrow_files(out) == before


def test_workers_write_what_one_process_writes(tmp_path, out):
    other = Path(shutil.copytree(out, tmp_path / "other"))
    embed.embed(out, cluster=INLINE)
    assert embed.embed(other, cluster=Cluster("local", 2)).complete
    assert arrow_files(other) == arrow_files(out)


@pytest.mark.parametrize("damage", ["missing", "cut off", "of another embedder"])
def test_what_is_missing_or_damaged_is_made_again_and_nothing_else(out, damage, caplog):
    embed.embed(out, cluster=INLINE)
    before = arrow_files(out)
    path = sorted((out / "hme" / default_id(Corpus.open(out)) / "shards").iterdir())[1]
    if damage == "missing":
        path.unlink()
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:-200])
    else:
        from hme.shard_rows import write_shard_rows

        rows = read_shard_rows(path)
        write_shard_rows(path, rows.table["segment"].to_pylist(), {"vector": rows.column("vector")}, made_by="other")
    done = embed.embed(out, cluster=INLINE)
    assert done.done_count == 1 and done.complete
    assert arrow_files(out) == before


def test_new_shards_are_embedded_by_the_old_statistics(out, tmp_path, motion_folder, folder):
    first = embed.embed(out, cluster=INLINE)
    before = arrow_files(out)
    more = motion_folder(tmp_path / "more", 4, first=50)
    assert upkeep.append(out, {"robot": more}, scheduler="inline").complete
    with pytest.raises(MotionloomError, match="are not embedded: run `loom embed`"):
        Space.open(Corpus.open(out))
    done = embed.embed(out, cluster=INLINE)
    assert done.hme_id == first.hme_id and not done.fitted and 0 < done.done_count < done.shard_count
    after = arrow_files(out)
    assert {name: after[name] for name in before} == before
    assert len(Space.open(Corpus.open(out)).vectors) == Corpus.open(out).kept.height


def test_presets_and_files_stand_beside_each_other(out, tmp_path):
    default = embed.embed(out, cluster=INLINE).hme_id
    published = embed.embed(out, "published", cluster=INLINE)
    assert published.fitted and default_id(Corpus.open(out)) == published.hme_id
    assert embed.embed(out, "spectrum", cluster=INLINE).hme_id == default
    assert ids(Corpus.open(out)) == sorted([default, published.hme_id])
    other = fit([Corpus.open(out).motion(0), Corpus.open(out).motion(1)], PRESETS["spectrum-2"])
    other.save(tmp_path / "mine.npz")
    assert embed.embed(out, tmp_path / "mine.npz", cluster=INLINE).hme_id == other.hme_id
    again = embed.embed(out, "spectrum", refit=True, sample=3, seed=7, cluster=INLINE)
    assert again.fitted and again.hme_id not in (default, other.hme_id)
    assert embed.embed(out, "spectrum", cluster=INLINE).hme_id == again.hme_id


def test_a_corpus_embedded_by_an_older_method_is_refitted(out, monkeypatch):
    monkeypatch.setattr("hme.spectrum.METHOD", 0)
    older = embed.embed(out, cluster=INLINE).hme_id
    monkeypatch.undo()
    with pytest.raises(MotionloomError, match="run `loom embed --refit`"):
        Space.open(Corpus.open(out)).embedder  # noqa: B018
    again = embed.embed(out, refit=True, cluster=INLINE)
    assert again.fitted and set(ids(Corpus.open(out))) == {older, again.hme_id}
    assert Space.open(Corpus.open(out)).embedder.hme_id == again.hme_id


@pytest.mark.parametrize(
    ("embedder", "words"),
    [
        ("mood", "No embedder mood. Known: spectrum, spectrum-2, published, or the file"),
        ("corpus.json", "corpus.json holds no embedder"),
    ],
)
def test_no_embedder_of_that_name_is_one_line(out, monkeypatch, capsys, embedder, words):
    monkeypatch.chdir(out)
    assert cli.main(["embed", ".", "--embedder", embedder]) == 1
    assert words in capsys.readouterr().err


def test_a_corpus_that_keeps_nothing_says_so(tmp_path, capsys):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "empty.csv").touch()
    build({"robot": tmp_path / "files"}, tmp_path / "corpus", scheduler="inline")
    assert cli.main(["embed", str(tmp_path / "corpus")]) == 1
    assert "keeps no segment" in capsys.readouterr().err


def test_two_at_once_do_not_meet(out):
    (out / "hme").mkdir()
    with locked(out / "hme"), pytest.raises(MotionloomError, match="by another process"):
        embed.embed(out, cluster=INLINE)


def test_an_exception_in_one_shard_leaves_the_others_done(out, monkeypatch):
    bad = Corpus.open(out).shard_ids[1]
    whole = embed.write_shard_rows

    def failing(path, *arguments, **options):
        if bad in path.name:
            raise RuntimeError("cosmic ray")
        whole(path, *arguments, **options)

    monkeypatch.setattr(embed, "write_shard_rows", failing)
    done = embed.embed(out, cluster=INLINE)
    assert done.missing == (bad,) and "cosmic ray" in done.failures[0].error
    monkeypatch.setattr(embed, "write_shard_rows", whole)
    again = embed.embed(out, cluster=INLINE)
    assert again.complete and again.done_count == 1


def test_verify_reads_every_byte_of_them_and_gc_finds_what_is_left_over(out, capsys):
    embed.embed(out, cluster=INLINE)
    assert cli.main(["verify", str(out)]) == 0
    folder = out / "hme" / "traits"
    (folder / "feedfeedfeedfeed.arrow").write_bytes(next(folder.iterdir()).read_bytes())
    (folder / ".tmp-abc.arrow-1").touch()
    capsys.readouterr()
    assert cli.main(["gc", str(out), "--delete"]) == 0
    assert "feedfeedfeedfeed.arrow" in (told := capsys.readouterr().out) and "deleted 2" in told
    path = sorted(folder.iterdir())[0]
    content = bytearray(path.read_bytes())
    content[content.index(b"-000000")] ^= 4
    path.write_bytes(bytes(content))
    assert cli.main(["verify", str(out)]) == 1
    assert path.name in capsys.readouterr().err


@pytest.mark.slow
def test_killed_half_way_it_goes_on_to_the_same_bytes(tmp_path, out):
    other = Path(shutil.copytree(out, tmp_path / "other"))
    embed.embed(other, cluster=INLINE)
    slow = (
        "import sys, time; from pathlib import Path; from pipelines import embed; from pipelines.cluster import Cluster\n"
        "whole = embed.write_shard_rows\n"
        "embed.write_shard_rows = lambda *a, **k: (whole(*a, **k), time.sleep(1))\n"
        "embed.embed(Path(sys.argv[1]), cluster=Cluster('inline'))"
    )
    process = subprocess.Popen([sys.executable, "-c", slow, str(out)])
    deadline = time.monotonic() + 60
    while len(arrow_files(out)) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < len(arrow_files(out)) < len(arrow_files(other))
    assert embed.embed(out, cluster=INLINE).complete
    assert arrow_files(out) == arrow_files(other)


def test_clusters_are_kept_as_the_corpus_grows_and_found_anew_when_asked(out, tmp_path, motion_folder, capsys):
    embed.embed(out, cluster=INLINE)
    assert cli.main(["cluster", str(out), "--clusters", "3", "--stability"]) == 0
    assert "3 clusters (found)" in (told := capsys.readouterr().out) and "adjusted Rand index" in told
    centres = (out / "hme" / default_id(Corpus.open(out)) / "clusters.npz").read_bytes()
    upkeep.append(out, {"robot": motion_folder(tmp_path / "more", 2, first=80)}, scheduler="inline")
    embed.embed(out, cluster=INLINE)
    assert cli.main(["cluster", str(out)]) == 0
    assert "3 clusters (there already)" in capsys.readouterr().out
    assert (out / "hme" / default_id(Corpus.open(out)) / "clusters.npz").read_bytes() == centres
    assert cli.main(["cluster", str(out), "--clusters", "2"]) == 0
    assert "2 clusters (found)" in capsys.readouterr().out
    assert cli.main(["cluster", str(out), "--seed", "5"]) == 0
    assert "2 clusters (found)" in capsys.readouterr().out
    assert cli.main(["cluster", str(out), "--clusters", "1000"]) == 1
    assert "name a number from 1 to" in capsys.readouterr().err


def test_the_report_shows_what_is_alike(out, capsys):
    assert cli.main(["report", str(out)]) == 0
    page = out / "report" / "report.html"
    assert "What is alike" not in page.read_text()
    embed.embed(out, cluster=INLINE)
    assert cli.main(["cluster", str(out), "--clusters", "2"]) == 0
    assert cli.main(["report", str(out), "--page", str(out / "report" / "other.html")]) == 0
    text = (out / "report" / "other.html").read_text()
    kept = Corpus.open(out).kept
    assert text.count("<circle") >= kept.height
    assert sum(name in text for name in kept["segment"]) >= 2
    assert "of the time, " in text
    assert cli.main(["verify", str(out)]) == 0


@pytest.mark.slow
def test_any_dask_cluster_embeds_the_same(out, tmp_path, dask_processes):
    other = Path(shutil.copytree(out, tmp_path / "other"))
    embed.embed(other, cluster=INLINE)
    dask_processes.worker()
    assert embed.embed(out, cluster=Cluster(dask_processes.address)).complete
    assert arrow_files(out) == arrow_files(other)


def test_a_run_killed_before_it_named_the_default_goes_on(out):
    done = embed.embed(out, cluster=INLINE)
    (out / "hme" / "default.json").unlink()
    again = embed.embed(out, cluster=INLINE)
    assert (again.hme_id, again.fitted, again.done_count) == (done.hme_id, False, 0)
    assert default_id(Corpus.open(out)) == done.hme_id


def test_of_several_embedders_none_becomes_the_default_unasked(out):
    embed.embed(out, cluster=INLINE)
    embed.embed(out, "published", cluster=INLINE)
    (out / "hme" / "default.json").write_text("{")
    with pytest.raises(MotionloomError, match=r"make one the default by `loom embed .* --embedder"):
        embed.embed(out, cluster=INLINE)
    known = ids(Corpus.open(out))[0]
    assert embed.embed(out, out / "hme" / known / "embedder.npz", cluster=INLINE).hme_id == known


def test_a_damaged_embedder_is_found_again(out):
    done = embed.embed(out, cluster=INLINE)
    path = out / "hme" / done.hme_id / "embedder.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    assert embed.embed(out, refit=True, cluster=INLINE).hme_id == done.hme_id
    assert Space.open(Corpus.open(out)).embedder.hme_id == done.hme_id


def test_a_file_about_other_segments_is_made_again(out):
    embed.embed(out, cluster=INLINE)
    expected = Space.open(Corpus.open(out)).vectors.copy()
    one, other, *_ = [path for path in arrow_files(out) if "/shards/" in path]
    shutil.copy(out / one, out / other)
    assert embed.embed(out, cluster=INLINE).done_count == 1
    np.testing.assert_array_equal(Space.open(Corpus.open(out)).vectors, expected)


def test_what_was_folded_from_a_shard_is_forgotten_when_it_is_made_again(out):
    from hme.fold_shards import folded_vectors
    from hme.shard_rows import write_shard_rows

    hme_id = embed.embed(out, cluster=INLINE).hme_id
    corpus = Corpus.open(out)
    path = Space.open(corpus).path("shards", f"{corpus.shard_ids[0]}.arrow")
    whole, rows = path.read_bytes(), read_shard_rows(path)
    columns = {name: rows.column(name) for name in rows.table.column_names if name != "segment"}
    wrong = columns | {"vector": columns["vector"] + 1}
    write_shard_rows(path, rows.table["segment"].to_pylist(), wrong, made_by=hme_id)
    (out / "hme" / hme_id / "vectors.arrow").unlink()
    assert folded_vectors(corpus, hme_id).column("vector")[0, 0] == wrong["vector"][0, 0]
    path.unlink()
    embed.embed(out, cluster=INLINE)
    assert path.read_bytes() == whole
    assert folded_vectors(corpus, hme_id).column("vector")[0, 0] == columns["vector"][0, 0]


@pytest.mark.parametrize("name", ["clusters.parquet", "../default.json", "../duplicates.parquet"])
def test_verify_opens_every_table(out, capsys, name):
    embed.embed(out, cluster=INLINE)
    assert cli.main(["cluster", str(out), "--clusters", "2"]) == 0
    assert cli.main(["dedup", str(out), "--scheduler", "inline"]) == 0
    assert cli.main(["verify", str(out)]) == 0
    path = Space.open(Corpus.open(out)).path(name).resolve()
    path.write_bytes(path.read_bytes()[:-9])
    assert cli.main(["verify", str(out)]) == 1
    assert path.name in capsys.readouterr().err


def test_a_damaged_side_table_does_not_keep_the_ledger_from_being_told(out, caplog, capsys):
    assert cli.main(["dedup", str(out), "--scheduler", "inline"]) == 0
    (out / "hme" / "duplicates.parquet").write_bytes(b"no table")
    capsys.readouterr()
    assert cli.main(["info", str(out)]) == 0
    assert "near-duplicates have not been looked for" in capsys.readouterr().out and "loom dedup" in caplog.text
