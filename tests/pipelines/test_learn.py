"""The autoencoder trained by command, and a corpus embedded by it."""

from __future__ import annotations

import pytest

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from hme.embedder import load_embedder
from hme.space import Space
from pipelines.build import build
from pipelines.cluster import Cluster
from pipelines.embed import embed

pytest.importorskip("torch")

from hme.periodic.training import Training
from pipelines import cli
from pipelines.learn import learn

BRIEFLY = Training(batch_size=8, steps=2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, motion_folder):
    out = tmp_path_factory.mktemp("built") / "corpus"
    build({"robot": motion_folder(tmp_path_factory.mktemp("files") / "robot", 3)}, out, scheduler="inline")
    return out


def test_a_corpus_is_embedded_by_what_was_trained_on_it(corpus, tmp_path):
    trained = learn(corpus, tmp_path / "embedder.npz", training=BRIEFLY)
    assert [path.name for path in tmp_path.iterdir()] == ["embedder.npz"]
    done = embed(corpus, tmp_path / "embedder.npz", cluster=Cluster("inline"))
    assert done.complete and done.hme_id == trained.hme_id
    space = Space.open(Corpus.open(corpus))
    assert space.block_names == ("sine_amplitude", "sine_frequency", "residual", "residual_spread", "pose", "velocity")
    assert len(space.vectors) == done.segment_count > 0


def test_the_command_says_how_to_go_on(corpus, tmp_path, capsys):
    arguments = ["learn", str(corpus), "--to", str(tmp_path / "a.npz"), "--steps", "2", "--batch-size", "8"]
    assert cli.main(arguments) == 0
    assert f"--embedder {tmp_path / 'a.npz'}" in capsys.readouterr().out
    assert load_embedder(tmp_path / "a.npz").hme_id == learn(corpus, tmp_path / "b.npz", training=BRIEFLY).hme_id
    assert cli.main(arguments) == 1
    assert "exists already" in capsys.readouterr().err


def test_an_unknown_preset_is_refused(corpus, tmp_path):
    with pytest.raises(MotionloomError, match=r"No preset 'spectrum'. Known: autoencoder, published"):
        learn(corpus, tmp_path / "a.npz", "spectrum")
