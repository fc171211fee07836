"""Training: a function of data, configs and seed, however often it is interrupted."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from swinging import swinging

from corpus.errors import MotionloomError
from corpus.loading.sampling_plan import Plan
from hme.features import features
from hme.periodic.training_windows import CorpusWindows, MotionWindows

torch = pytest.importorskip("torch")

from hme.autoencoder import AutoencoderConfig  # noqa: E402
from hme.periodic.training import Training, train, train_on  # noqa: E402

SMALL = AutoencoderConfig(hidden=8, latent=3)
BRIEFLY = Training(batch_size=32, steps=12, checkpoint_steps=4)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Killed(Exception):
    """As a signal would, in the middle of a run."""


def killed_after(steps: int):
    def progress(step: int, loss: float) -> None:
        if step == steps:
            raise Killed

    return progress


def test_training_lowers_the_loss(motions):
    losses = []
    training = replace(BRIEFLY, steps=60, batch_size=64)
    train_on(motions, SMALL, training=training, progress=lambda step, loss: losses.append(loss))
    assert len(losses) == 60
    assert np.mean(losses[-5:]) < 0.6 * losses[0]


def test_the_seed_decides_everything(motions):
    first, same, other = (train_on(motions, SMALL, seed=seed, training=BRIEFLY).hme_id for seed in (1, 1, 2))
    assert first == same
    assert first != other


@pytest.mark.parametrize("killed", [3, 6, 8])
def test_a_killed_run_ends_with_the_same_weights(motions, tmp_path, killed):
    whole = train_on(motions, SMALL, training=BRIEFLY)
    checkpoint = tmp_path / "checkpoint.npz"
    with pytest.raises(Killed):
        train_on(motions, SMALL, training=BRIEFLY, checkpoint=checkpoint, progress=killed_after(killed))
    assert checkpoint.exists() == (killed > 4)
    seen: list[int] = []
    resumed = train_on(
        motions, SMALL, training=BRIEFLY, checkpoint=checkpoint, progress=lambda step, _: seen.append(step)
    )
    assert seen[0] == (killed - 1) // 4 * 4 + 1
    assert all(np.array_equal(resumed.network_weights[name], array) for name, array in whole.network_weights.items())
    assert resumed.hme_id == whole.hme_id


def test_a_run_on_a_corpus_is_resumed_likewise(space, tmp_path):
    checkpoint = tmp_path / "checkpoint.npz"
    whole = train(space.corpus, SMALL, training=BRIEFLY)
    with pytest.raises(Killed):
        train(space.corpus, SMALL, training=BRIEFLY, checkpoint=checkpoint, progress=killed_after(6))
    assert not [thread for thread in threading.enumerate() if thread.name == "motionloom-ahead"]
    assert train(space.corpus, SMALL, training=BRIEFLY, checkpoint=checkpoint).hme_id == whole.hme_id


def test_a_run_on_a_corpus_too_large_for_memory_is_resumed_where_there_is_more(space, tmp_path, monkeypatch):
    checkpoint = tmp_path / "checkpoint.npz"
    with monkeypatch.context() as small, pytest.raises(Killed):
        small.setattr("corpus.loader._room", lambda corpus: 0.0)
        train(space.corpus, SMALL, training=BRIEFLY, checkpoint=checkpoint, progress=killed_after(6))
    resumed = train(space.corpus, SMALL, training=BRIEFLY, checkpoint=checkpoint)
    monkeypatch.setattr("corpus.loader._room", lambda corpus: 0.0)
    whole = train(space.corpus, SMALL, training=BRIEFLY)
    assert resumed.hme_id == whole.hme_id
    monkeypatch.undo()
    assert train(space.corpus, SMALL, training=BRIEFLY).hme_id != whole.hme_id  # mapped, other windows are drawn


def test_a_finished_run_is_not_run_again_and_can_be_continued(motions, tmp_path):
    checkpoint, seen = tmp_path / "checkpoint.npz", []
    options = {"checkpoint": checkpoint, "progress": lambda step, _: seen.append(step)}
    train_on(motions, SMALL, training=BRIEFLY, **options)
    train_on(motions, SMALL, training=BRIEFLY, **options)
    longer = train_on(motions, SMALL, training=replace(BRIEFLY, steps=16), **options)
    assert seen == [*range(1, 17)]
    assert longer.hme_id == train_on(motions, SMALL, training=replace(BRIEFLY, steps=16)).hme_id


def test_another_runs_checkpoint_is_refused(motions, tmp_path):
    checkpoint = tmp_path / "checkpoint.npz"
    train_on(motions, SMALL, training=BRIEFLY, checkpoint=checkpoint)
    with pytest.raises(MotionloomError, match="another seed"):
        train_on(motions, SMALL, seed=1, training=BRIEFLY, checkpoint=checkpoint)
    with pytest.raises(MotionloomError, match="another run: it has another network"):
        train_on(motions, replace(SMALL, hidden=9), training=BRIEFLY, checkpoint=checkpoint)
    with pytest.raises(MotionloomError, match="another statistics"):
        train_on(motions[:20], SMALL, training=BRIEFLY, checkpoint=checkpoint)


def test_a_damaged_checkpoint_is_refused(motions, tmp_path):
    checkpoint = tmp_path / "checkpoint.npz"
    train_on(motions, SMALL, training=BRIEFLY, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-3000])
    with pytest.raises(MotionloomError, match="checkpoint"):
        train_on(motions, SMALL, training=BRIEFLY, checkpoint=checkpoint)


def test_a_run_that_diverges_says_so(motions):
    with pytest.raises(MotionloomError, match=r"diverged at step \d+ .*lower learning_rate"):
        train_on(motions, SMALL, training=replace(BRIEFLY, learning_rate=1e30))


def test_epochs_are_of_all_windows():
    assert Training(batch_size=100).step_count(1001) == 51
    assert Training(batch_size=100, steps=7).step_count(1001) == 7


@pytest.mark.parametrize("wrong", [{"batch_size": 1}, {"epochs": 0}, {"steps": 0}])
def test_training_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(MotionloomError, match="should"):
        Training(**wrong)


# --- windows


def test_windows_of_motions_are_rows_of_them_short_ones_held_at_their_end():
    given = features([swinging(1, 6, seed=1), swinging(1, 1, seed=2)])
    found = next(MotionWindows(given, 41, 200, seed=0).batches(0))
    assert found.shape == (41, 200, 39)
    long = np.lib.stride_tricks.sliding_window_view(given[0], 41, 0).transpose(0, 2, 1)
    short = np.concatenate([given[1], np.repeat(given[1][-1:], 31, 0)])
    is_short = (found == short[:, None]).all((0, 2))
    assert 10 < is_short.sum() < 60  # a seventh of the samples are the short one's
    assert all((window == long).all((1, 2)).any() for window in found[:, ~is_short].transpose(1, 0, 2))


def test_windows_of_a_corpus_are_those_of_its_segments_features(space):
    """Where a window begins at a sample of its segment's features, it is they; the low-pass reaches beyond it."""
    corpus = space.corpus
    windows = CorpusWindows(corpus, 41, 64, seed=0)
    drawn = windows._loader.windows[3]
    found = next(windows.batches(3))
    checked = 0
    for i in range(64):
        middle, frames = int(drawn.frame[i]), int(corpus.frames[drawn.segment[i]])
        start = int(np.clip(middle - 100, 0, max(frames - 201, 0)))
        if start % 5 == 0:
            whole = features([corpus.motion(int(drawn.segment[i]))])[0][start // 5 :][:41]
            held = np.concatenate([whole, np.repeat(whole[-1:], 41 - len(whole), 0)])
            assert np.allclose(found[:, i], held, atol=1e-4)
            checked += 1
    assert checked >= 10


def test_a_batch_is_a_function_of_its_step(space, motions):
    for windows in (CorpusWindows(space.corpus, 41, 16, seed=0), MotionWindows(features(motions), 41, 16, seed=0)):
        several = windows.batches(0)
        third = [next(several) for _ in range(3)][2]
        assert np.array_equal(next(windows.batches(2)), third)


def test_a_plan_decides_what_is_drawn(space):
    corpus = space.corpus
    plan = Plan(np.arange(len(corpus.frames)) == 5)
    windows = CorpusWindows(corpus, 41, 16, seed=0, plan=plan)
    assert set(windows._loader.windows[0].segment) == {5}
    assert windows.state(0) != CorpusWindows(corpus, 41, 16, seed=0).state(0)
