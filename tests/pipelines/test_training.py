"""The trainer's commands on a corpus of made-up motion, small enough for seconds: they do what they say, and go on."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from toy_tracking import Asked

from corpus.augment import mirror_columns
from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.g1 import G1
from corpus.loading.plan_file import save_plan
from corpus.loading.sampling_plan import Plan
from pipelines import train_demo, training
from pipelines.cli import main
from pipelines.evaluate import Chosen, evaluate_corpus
from pipelines.scaling import Grid, scale
from pipelines.train_demo import DemoOptions, make_corpus, summary
from pipelines.training import (
    Setup,
    clusters_of,
    load_experts,
    load_policy,
    make_env,
    plan_of,
    train_cluster_expert,
    train_corpus_student,
)
from trainer import student as student_module
from trainer.checkpoint import checkpoint_steps, load_checkpoint
from trainer.evaluate import Trial
from trainer.gpt import SIZES, GptShape
from trainer.run_log import read_log
from trainer.student import StudentOptions

pytestmark = pytest.mark.slow

TINY = ["--robots", "4", "--seconds", "2", "--randomise", "light"]
UPDATE = 4 * 24
"""Control periods of an update of four robots."""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a corpus of two movements, a cluster each, and an expert of each."""
    out = tmp_path_factory.mktemp("training")
    corpus = make_corpus(out, DemoOptions(kinds=("squat", "reach"), stand=False, takes=2, seconds=3.0))
    for cluster in np.unique(clusters_of(corpus)):
        run = out / "runs" / f"expert-{cluster}"
        assert train("expert", out, run, "--cluster", str(cluster), "--steps", str(2 * UPDATE)) == 0
    return out


def train(what: str, out: Path, run: Path, *others: str) -> int:
    return main(["train", what, str(out / "corpus"), "--run", str(run), *TINY, *others])


def experts(made: Path) -> list[Path]:
    return sorted((made / "runs").glob("expert-*"))


def test_an_expert_is_trained_on_its_clusters_motions_alone(made):
    corpus = Corpus.open(made / "corpus")
    of = clusters_of(corpus)
    for run in experts(made):
        arrays, facts = load_checkpoint(run)
        (cluster,) = json.loads((run / "run.json").read_text())["clusters"]
        assert facts["step"] == 2
        assert set(of[arrays["env.segment"].numpy()]) == {cluster}
    assert sorted(load_experts(experts(made))) == sorted(set(of.tolist()))


def test_a_run_that_goes_on_ends_as_one_that_never_stopped(made, tmp_path):
    for steps in (1, 3):
        train("expert", made, tmp_path / "stopped", "--steps", str(steps * UPDATE))
    train("expert", made, tmp_path / "whole", "--steps", str(3 * UPDATE))
    stopped, whole = (load_checkpoint(tmp_path / name)[0] for name in ("stopped", "whole"))
    assert stopped.keys() == whole.keys()
    assert all((stopped[name] == whole[name]).all() for name in whole)
    assert [row["step"] for row in read_log(tmp_path / "stopped")] == [1, 2, 3]


def test_only_the_part_of_the_split_that_was_asked_for_is_trained_on(made, tmp_path, monkeypatch):
    corpus = Corpus.open(made / "corpus")
    dealt = pl.DataFrame({"split": np.where(np.arange(len(corpus.frames)) == 2, "train", "test")})
    monkeypatch.setattr(training, "read_split", lambda corpus: dealt)
    train("expert", made, tmp_path / "run", "--steps", str(2 * UPDATE), "--split", "train")
    assert (load_checkpoint(tmp_path / "run")[0]["env.segment"] == 2).all()
    with pytest.raises(MotionloomError, match="No segment lies in the part 'validation'"):
        evaluate_corpus(corpus, ["pd"], Trial(seconds=0.2), Chosen(split="validation"))


def test_a_plan_is_followed_to_the_end(made, tmp_path):
    corpus = Corpus.open(made / "corpus")
    weights = np.full(len(corpus.frames), 1e-9)
    weights[1] = 1.0
    save_plan(Plan(weights), tmp_path / "plan.parquet", corpus)
    train("expert", made, tmp_path / "run", "--steps", str(3 * UPDATE), "--plan", str(tmp_path / "plan.parquet"))
    assert (load_checkpoint(tmp_path / "run")[0]["env.segment"] == 1).all()


def test_mirroring_shows_half_of_the_motions_left_for_right_and_changes_nothing_else(made):
    corpus = Corpus.open(made / "corpus")
    setup = Setup(robots=40, seconds=2, randomise="none", mirror=True)
    env = make_env(corpus, plan_of(corpus), setup)
    frames = np.stack([corpus.motion(s).qpos[f] for s, f in zip(env.segment, env.start, strict=True)])
    columns = np.array(mirror_columns(G1))
    images = frames[:, np.abs(columns) - 1] * np.sign(columns)
    as_they_are, in_the_mirror = (np.isclose(env.backend.qpos, x, atol=1e-5).all(1) for x in (frames, images))
    assert (as_they_are | in_the_mirror).all()
    assert 0.2 < in_the_mirror.mean() < 0.8
    assert (env.speed == 1).all()


def test_absolute_actions_are_another_contract(made, tmp_path):
    train("expert", made, tmp_path / "run", "--steps", str(UPDATE), "--action", "absolute")
    assert load_policy(str(tmp_path / "run")).contract.action == "absolute"
    with pytest.raises(MotionloomError, match="contract"):
        run = tmp_path / "run"
        train_cluster_expert(Corpus.open(made / "corpus"), run, setup=Setup(robots=4, seconds=2, randomise="light"))


def test_unknown_clusters_and_robots_are_refused(made, tmp_path, capsys):
    assert train("expert", made, tmp_path / "run", "--cluster", "7") == 1
    assert "cluster 7" in capsys.readouterr().err
    corpus = Corpus.open(made / "corpus")
    with pytest.raises(MotionloomError, match="None of the chosen"):
        plan_of(corpus, np.zeros(len(corpus.frames), bool))


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        (["--seconds", "nan"], "Episodes of nan s"),
        (["--seconds", "0.1"], "Episodes of 0.1 s"),
        (["--seconds", "1e6"], "Episodes of 1e+06 s"),
        (["--enough", "nan"], "enough nan: should be a share"),
    ],
)
def test_absurd_options_are_one_line(made, tmp_path, capsys, told, wrong):
    assert train("expert", made, tmp_path / "run", *told) == 1
    assert wrong in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("told", "wrong"),
    [(["--learning-rate", "nan"], "learning_rate"), (["--device", "abacus"], "No device 'abacus' here")],
)
def test_absurd_options_of_students_are_one_line(made, tmp_path, capsys, told, wrong):
    assert train("student", made, tmp_path / "run", "--expert", *map(str, experts(made)), *told) == 1
    assert wrong in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "wrong"),
    [(["--seconds", "inf"], "seconds should be from"), (["--json", "nowhere/a.json"], "in a folder that is there")],
)
def test_absurd_options_of_the_referee_are_one_line(made, capsys, told, wrong):
    assert main(["evaluate", str(made / "corpus"), *told]) == 1
    assert wrong in capsys.readouterr().err


def test_without_torch_the_commands_say_what_to_install(made, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["evaluate", str(made / "corpus")]) == 1
    assert "pip install 'motionloom[train]'" in capsys.readouterr().err


def test_the_same_evaluation_twice_is_the_same_file(made, tmp_path, capsys):
    policies = ["pd", *map(str, experts(made))]
    for name in ("a", "b"):
        told = ["--starts", "2", "--seconds", "1", "--randomise", "training", "--json", str(tmp_path / name)]
        assert main(["evaluate", str(made / "corpus"), "--policy", *policies, *told]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert "pd_replay" in capsys.readouterr().out


def test_standing_still_by_pd_replay_fails_every_start(made):
    scores = evaluate_corpus(Corpus.open(made / "corpus"), ["pd"], Trial(starts=2))
    (row,) = scores.filter((scores["measure"] == "trunk_success") & (scores["group"] == "overall")).to_dicts()
    assert row["mean"] == 0 and row["starts"] == 8


def test_only_chosen_segments_are_judged(made):
    corpus = Corpus.open(made / "corpus")
    of = clusters_of(corpus)
    scores = evaluate_corpus(corpus, ["pd"], Trial(seconds=0.2), Chosen(clusters=(1,), limit=1))
    assert set(scores.filter(scores["group"] == "cluster")["value"]) == {"1"}
    assert set(scores["starts"]) <= {0, 1} and (of == 1).sum() == 2
    with pytest.raises(MotionloomError, match="names of their own"):
        evaluate_corpus(corpus, ["pd", "pd"], Trial(seconds=0.2))


def test_a_student_learns_from_experts_by_command(made, tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "nano", GptShape(1, 16, 2, 16))
    run = tmp_path / "student"
    told = ["--expert", *map(str, experts(made)), "--rounds", "1", "--steps", "2"]
    assert train("student", made, run, *told) == 0
    assert checkpoint_steps(run)[-1] == 2
    assert main(["evaluate", str(made / "corpus"), "--policy", str(run), "--seconds", "0.2"]) == 0


def test_a_demo_that_is_stopped_judges_no_half_trained_student(made, tmp_path, monkeypatch):
    def student(corpus: Corpus, run: Path, **options):
        return train_corpus_student(corpus, run, **{**options, "experts": experts(made)})

    monkeypatch.setattr(train_demo, "make_corpus", lambda *_: Corpus.open(made / "corpus"))
    monkeypatch.setattr(train_demo, "train_experts", lambda *_: True)
    monkeypatch.setattr(train_demo, "train_corpus_student", student)
    monkeypatch.setattr(student_module, "Interrupt", lambda: nullcontext(Asked(at=1)))
    monkeypatch.setattr(
        train_demo, "evaluate_corpus", lambda *_: pytest.fail("a student that has learned nothing was judged")
    )
    with pytest.raises(KeyboardInterrupt):
        train_demo.main(tmp_path / "demo")


def test_a_run_goes_on_with_the_same_motions_only(made, tmp_path, capsys):
    train("expert", made, tmp_path / "run", "--steps", str(UPDATE), "--cluster", "0")
    assert train("expert", made, tmp_path / "run", "--steps", str(2 * UPDATE), "--cluster", "1") == 1
    assert "it differs in clusters, plan" in capsys.readouterr().err


def test_experts_of_no_cluster_and_of_other_clusters_are_refused(made, tmp_path, capsys):
    train("expert", made, tmp_path / "all", "--steps", str(UPDATE))
    assert train("student", made, tmp_path / "student", "--expert", str(tmp_path / "all")) == 1
    assert "expert of no cluster" in capsys.readouterr().err
    with pytest.raises(MotionloomError, match="the corpus has other"):
        load_experts(experts(made), "other")


def test_experts_of_one_cluster_twice_are_refused(made):
    with pytest.raises(MotionloomError, match="Both"):
        load_experts([experts(made)[0], experts(made)[0]])


def test_a_small_grid_is_told_to_be_too_small_for_a_law_and_is_not_trained_twice(made, tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "nano", GptShape(1, 16, 2, 16))
    options = StudentOptions(shape=SIZES["nano"], rounds=1, rollout_steps=30, steps_per_round=2, batch_size=4)
    asked = {
        "experts": experts(made),
        "grid": Grid(("nano",), (0.5, 1.0), validation_steps=20),
        "setup": Setup(robots=4, seconds=2.0, randomise="light"),
        "options": options,
    }
    told = scale(Corpus.open(made / "corpus"), tmp_path / "law", **asked)
    assert told.fit is None and "3 network sizes (there are 1)" in told.refused
    assert len(told.rows) == 2 and all(np.isfinite(row["loss"]) for row in told.rows)
    before = (tmp_path / "law" / "scaling.jsonl").read_bytes()
    scale(Corpus.open(made / "corpus"), tmp_path / "law", **asked)
    assert (tmp_path / "law" / "scaling.jsonl").read_bytes() == before


def test_the_demos_summary_compares_each_cluster_with_its_best_wrong_expert():
    rows = [
        ("pd_replay", "overall", "", 0.0), ("student", "overall", "", 0.9), ("a", "overall", "", 0.6), ("b", "overall", "", 0.5),
        ("a", "cluster", "0", 1.0), ("a", "cluster", "1", 0.2), ("b", "cluster", "0", 0.1), ("b", "cluster", "1", 0.9),
        ("student", "cluster", "0", 0.95), ("student", "cluster", "1", 0.85),
    ]  # fmt: skip
    table = [
        {"policy": p, "group": g, "value": v, "measure": "trunk_success", "mean": m, "starts": 32}
        for p, g, v, m in rows
    ]
    table += [{**row, "measure": "mpkpe_mm", "mean": 40.0} for row in table if row["group"] == "overall"]
    told = summary(pl.DataFrame(table), {0: "a", 1: "b"})
    assert told["expert_success"] == 0.9 and told["pd_replay_success"] == 0.0
    assert told["best_wrong_expert_success"] == pytest.approx((0.1 + 0.2) / 2)
    assert told["student_minus_best_wrong_expert"] == pytest.approx(0.9 - 0.15)
    assert told["student_mpkpe_mm"] == 40.0
