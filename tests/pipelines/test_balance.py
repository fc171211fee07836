"""`loom balance` writes a plan that the loader draws by, and says what it will show."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.loader import batches
from corpus.loading.plan_file import load_plan, read_plan
from hme.cluster import fit_clusters, read_clusters, write_clusters
from hme.physics_score import PRESETS, score
from hme.sampling.adaptive import AdaptiveBins
from hme.sampling.policy_spec import parse_spec
from hme.space import Space, hme_folder
from hme.tables import write_segment_table
from hme.traits import read_traits
from pipelines import cli, embed
from pipelines.balance import Allowed, Watch, balance
from pipelines.build import build
from pipelines.cluster import Cluster

pytestmark = pytest.mark.usefixtures("many_shards")


@pytest.fixture(scope="module")
def built(tmp_path_factory, motion_folder, many_shards) -> Path:
    """Embedded and clustered."""
    folder = motion_folder(tmp_path_factory.mktemp("files") / "robot", 8)
    out = tmp_path_factory.mktemp("built") / "corpus"
    build({"robot": folder}, out, scheduler="inline")
    embed.embed(out, cluster=Cluster("inline"))
    space = Space.open(Corpus.open(out))
    write_clusters(space, fit_clusters(space.vectors, 3, hme_id=space.hme_id))
    return out


@pytest.fixture
def corpus(tmp_path, built) -> Corpus:
    return Corpus.open(Path(shutil.copytree(built, tmp_path / "corpus")))


def odd(corpus: Corpus) -> np.ndarray:
    return np.arange(len(corpus.frames)) % 2 == 1


def drawn(corpus: Corpus, plan: Path) -> np.ndarray:
    made = batches(corpus, weights=plan, batch_size=256, window=64, seed=0, steps=10, fields=("contact",))
    return np.concatenate([batch.segment for batch in made])


def test_clusters_are_balanced_where_the_plan_asks_for_it(corpus, tmp_path, capsys):
    plan = tmp_path / "plan.parquet"
    code = cli.main(
        ["balance", str(corpus.path), "--policy", "cluster:tau=0", "--out", str(plan), "--most-ratio", "1.01"]
    )
    out = capsys.readouterr().out
    space = Space.open(corpus)
    count = np.bincount(read_clusters(space)[drawn(corpus, plan)], minlength=3)
    assert code == 0 and np.allclose(count / count.sum(), 1 / 3, atol=0.04)
    assert "robot" in out and "0.000 by this plan" in out and f"wrote {plan} ({read_plan(plan).hash})" in out
    assert read_plan(plan).hme_id == space.hme_id
    policy = read_plan(plan).policy
    assert policy["policy"] == [{"name": "cluster", "share": 1.0, "tau": 0}] and policy["window"] == 64
    assert policy["allowed"] == {"selection": None, "unique": False, "split": None, "licences": []}


def test_clusters_seen_too_often_are_warned_of(corpus, tmp_path, caplog):
    done = balance(corpus, parse_spec(["cluster:tau=0"]), tmp_path / "p", window=64, watch=Watch(1e6, most_ratio=1.01))
    assert done.tail is not None and "clusters would be seen more than" in caplog.text
    assert done.exposure.windows.sum() == pytest.approx(1e6)
    caplog.clear()
    assert balance(corpus, parse_spec(["uniform"]), tmp_path / "p", window=64).tail is None and not caplog.text


def write_masks(corpus: Corpus) -> None:
    """Odd segments are chosen, kept and trained on."""
    space, mask = Space.open(corpus), odd(corpus)
    tables = {
        space.path("selections", "best.parquet"): pl.DataFrame({"chosen": mask}),
    }
    for path, columns in tables.items():
        write_segment_table(corpus, path, columns, hme_id=space.hme_id)
    write_segment_table(corpus, hme_folder(corpus) / "duplicates.parquet", pl.DataFrame({"keeper": mask}))
    split = pl.DataFrame({"split": np.where(mask, "train", "test")})
    write_segment_table(corpus, hme_folder(corpus) / "split.parquet", split)


@pytest.mark.parametrize(
    "options",
    [["--selection", "best"], ["--split", "train"], ["--unique"]],
)
def test_what_is_masked_is_never_drawn(corpus, tmp_path, options):
    write_masks(corpus)
    assert cli.main(["balance", str(corpus.path), *options, "--out", str(tmp_path / "plan.parquet")]) == 0
    segments = drawn(corpus, tmp_path / "plan.parquet")
    assert odd(corpus)[segments].all() and len(np.unique(segments)) == odd(corpus).sum()


def test_what_a_plan_shows_is_of_what_may_be_drawn(corpus, tmp_path):
    """Whole passes over half of the corpus: one epoch, whichever way it is told."""
    write_masks(corpus)
    done = balance(corpus, parse_spec(["uniform"]), tmp_path / "plan.parquet", window=1, allowed=Allowed(split="train"))
    frames, table = corpus.frames[odd(corpus)], done.by_source.table(done.pool.source_names, corpus.fps)
    assert table["epochs"].to_list() == pytest.approx([1.0]) and done.mean_epochs == pytest.approx(1.0)
    assert table["segments"].sum() == len(frames) and table["hours"].sum() == pytest.approx(
        frames.sum() / corpus.fps / 3600
    )
    assert done.by_cluster is not None
    assert done.by_cluster.natural.sum() == done.by_source.natural.sum() == frames.sum()
    assert np.allclose(done.clip_epochs(corpus), 1)


@pytest.mark.parametrize(
    ("allowed", "why"),
    [
        (Allowed(selection="best"), "run `loom select`"),
        (Allowed(unique=True), "run `loom dedup`"),
        (Allowed(split="train"), "run `loom split`"),
        (Allowed(licences=("CC0",)), "No segment is under the licence 'CC0'. Known: "),
    ],
)
def test_what_is_not_there_is_told(corpus, tmp_path, allowed, why):
    with pytest.raises(MotionloomError) as error:
        balance(corpus, parse_spec(["uniform"]), tmp_path / "plan.parquet", window=64, allowed=allowed)
    assert why in str(error.value) and not (tmp_path / "plan.parquet").exists()


def test_a_part_of_the_split_that_is_none_names_those_that_are(corpus, tmp_path):
    write_masks(corpus)
    with pytest.raises(MotionloomError, match=r"No segment lies in the part 'trian'. Known: "):
        balance(corpus, parse_spec(["uniform"]), tmp_path / "plan.parquet", window=64, allowed=Allowed(split="trian"))


def test_windows_of_no_frame_are_refused(corpus, tmp_path):
    with pytest.raises(MotionloomError, match="should be at least 1"):
        balance(corpus, parse_spec(["uniform"]), tmp_path / "plan.parquet", window=0)
    assert not (tmp_path / "plan.parquet").exists()


@pytest.mark.parametrize("preset", ["contact", "published"])
def test_quality_goes_by_the_physics_score(corpus, tmp_path, preset):
    traits = read_traits(corpus)
    chosen = PRESETS[preset]
    expected = score({term: traits[term].to_numpy() for term in chosen.weights}, chosen)
    threshold = float(np.median(expected))
    done = balance(corpus, parse_spec([f"quality:threshold={threshold}"]), tmp_path / "p", window=64, score=preset)
    assert np.array_equal(done.plan.weights > 0, expected >= threshold) and (done.plan.weights > 0).any()
    with pytest.raises(MotionloomError, match="No physics score 'best'"):
        balance(corpus, parse_spec(["quality"]), tmp_path / "p", window=64, score="best")


def test_licences_are_named_in_full(corpus, tmp_path):
    licence = corpus.clips.collect()["licence"][0]
    done = balance(corpus, parse_spec(["uniform"]), tmp_path / "p", window=64, allowed=Allowed(licences=(licence,)))
    assert done.pool.mask is not None and done.pool.mask.all() and done.effective == pytest.approx(1)


def test_without_an_embedding_only_what_needs_one_is_refused(corpus, tmp_path):
    shutil.rmtree(hme_folder(corpus))
    done = balance(corpus, parse_spec(["source"]), tmp_path / "plan.parquet", window=64)
    assert done.pool.cluster is None and done.tail is None and read_plan(tmp_path / "plan.parquet").hme_id == ""
    for policy in ("cluster", "density", "propensity"):
        with pytest.raises(MotionloomError, match="not embedded yet"):
            balance(corpus, parse_spec([policy]), tmp_path / "plan.parquet", window=64)


def test_feedback_of_a_tracker_makes_a_plan_with_bins(corpus, tmp_path, capsys):
    bins = AdaptiveBins(corpus.frames, window=64)
    bins.update(np.array([2]), np.array([60]), np.array([True]))
    bins.save(tmp_path / "feedback.npz")
    options = ["--policy", "adaptive:preset=sonic_paper", "--policy", "uniform", "--mix", "1", "3"]
    feedback = ["--feedback", str(tmp_path / "feedback.npz"), "--out", str(tmp_path / "plan.parquet")]
    assert cli.main(["balance", str(corpus.path), *options, *feedback]) == 0
    plan = load_plan(tmp_path / "plan.parquet", corpus)
    assert plan.bins is not None and len(drawn(corpus, tmp_path / "plan.parquet")) == 2560
    assert "effective sample size" in capsys.readouterr().out


def test_a_spec_in_a_file_says_it_all(corpus, tmp_path, capsys):
    (tmp_path / "spec.toml").write_text('cap = 2\n[[policy]]\nname = "cluster"\ntau = 0.5\n')
    command = ["balance", str(corpus.path), "--spec", str(tmp_path / "spec.toml"), "--out", str(tmp_path / "p")]
    assert cli.main(command) == 0
    assert cli.main([*command, "--cap", "3"]) == 1 and "--spec says it all" in capsys.readouterr().err


def test_traits_of_another_version_are_refused(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("hme.traits.VERSION", "of tomorrow")
    with pytest.raises(MotionloomError, match="traits of another version: run `loom embed` again"):
        read_traits(corpus)
    with pytest.raises(MotionloomError, match="traits of another version"):
        balance(corpus, parse_spec(["quality"]), tmp_path / "plan.parquet", window=64)
