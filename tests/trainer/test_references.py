from __future__ import annotations

import numpy as np
import pytest
from wandering import in_the_mirror, wandering, write_corpus

from corpus.augment import Augment
from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.loading.sampling_plan import Plan
from corpus.motion import RobotMotion, velocity
from trainer.references import ClipReferences, CorpusReferences

SECONDS = (4.0, 1.0, 2.0)
LENGTH, SHORTEST = 60, 25


@pytest.fixture(scope="module")
def motions() -> list[RobotMotion]:
    return [wandering(seconds, seed) for seed, seconds in enumerate(SECONDS)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, motions) -> Corpus:
    takes = [(f"take{i}", motion) for i, motion in enumerate(motions)]
    return Corpus.open(write_corpus(tmp_path_factory.mktemp("references"), {"aa": takes[:2], "bb": takes[2:]}))


@pytest.fixture(params=["clips", "corpus"])
def make(request, corpus, motions):
    """References of the same motions, by both ways."""
    if request.param == "clips":
        return lambda **options: ClipReferences(motions, length=LENGTH, shortest=SHORTEST, **options)
    return lambda **options: CorpusReferences(corpus, length=LENGTH, shortest=SHORTEST, **options)


def arrays(drawn) -> list[np.ndarray]:
    return list(vars(drawn).values())


def test_what_is_drawn_is_the_motion_and_its_velocity(make, motions):
    drawn = make().draw(40)
    assert set(drawn.segment) == {0, 1, 2}
    for i, (segment, first, count) in enumerate(zip(drawn.segment, drawn.frame, drawn.frames, strict=True)):
        motion = motions[segment]
        rows = slice(first, first + count)
        assert np.allclose(drawn.qpos[i, :count], motion.qpos[rows], atol=1e-6)
        assert np.allclose(drawn.velocity[i, :count], velocity(motion)[rows], atol=2e-3)  # float32's differences
        assert SHORTEST <= count == min(motion.frame_count - first, LENGTH)


def test_a_motion_that_is_over_stands_still(make, motions):
    drawn = make().take(np.array([1]), np.array([15]))
    assert drawn.frames[0] == 35
    assert (drawn.qpos[0, 35:] == motions[1].qpos[-1]).all()
    assert (drawn.velocity[0, 35:] == 0).all()


def test_both_ways_give_the_same(corpus, motions):
    clips, stored = (
        ClipReferences(motions, length=LENGTH, shortest=SHORTEST, seed=4),
        CorpusReferences(corpus, length=LENGTH, shortest=SHORTEST, seed=4),
    )
    assert (clips.frames == stored.frames).all()
    for _ in range(3):
        for a, b in zip(arrays(clips.draw(7)), arrays(stored.draw(7)), strict=True):
            assert np.allclose(a, b, atol=1e-4)


def test_draws_go_on_where_they_stopped(make):
    whole = make(seed=3)
    for _ in range(2):
        whole.draw(5)
    state, rest = whole.state_dict(), [whole.draw(n) for n in (3, 8)]
    resumed = make(seed=3)
    resumed.load_state_dict(state)
    for drawn, n in zip(rest, (3, 8), strict=True):
        assert all((a == b).all() for a, b in zip(arrays(drawn), arrays(resumed.draw(n)), strict=True))
    other = make(seed=2)
    assert (other.draw(20).frame != make(seed=3).draw(20).frame).any()
    with pytest.raises(MotionloomError, match="seed 3"):
        other.load_state_dict(state)


def test_a_plan_is_followed(make):
    references = make(plan=Plan(np.array([0.0, 1.0, 1.0])))
    assert set(references.draw(60).segment) == {1, 2}
    bins = np.zeros(4 + 1 + 2)
    bins[2] = bins[-1] = 1  # from frame 100 of the first motion, and frame 50 of the last
    references.follow(Plan(np.array([3.0, 0.0, 1.0]), bins, 50))
    drawn = references.draw(200)
    assert set(drawn.segment) == {0, 2}
    assert (drawn.segment == 0).mean() == pytest.approx(0.75, abs=0.1)
    begun = drawn.frame[drawn.segment == 0]
    assert begun.min() >= 100
    assert begun.max() < 150
    # At least SHORTEST frames are left.
    assert drawn.frame[drawn.segment == 2].max() <= 100 - SHORTEST


def test_by_default_every_start_is_as_likely(make):
    counts = np.bincount(make().draw(3000).segment, minlength=3)
    starts = np.array([50 * seconds - SHORTEST + 1 for seconds in SECONDS])
    assert np.allclose(counts / 3000, starts / starts.sum(), atol=0.03)


def test_corpus_motions_are_augmented_as_asked(corpus, motions):
    references = CorpusReferences(corpus, length=LENGTH, shortest=SHORTEST, augment=Augment(mirror=1.0, speeds=(1.0,)))
    drawn, mirrored = references.draw(10), [in_the_mirror(motion) for motion in motions]
    for i, (segment, first, count) in enumerate(zip(drawn.segment, drawn.frame, drawn.frames, strict=True)):
        # Turned about the vertical too: joints and heights stay.
        expected = mirrored[segment].qpos[first : first + count]
        assert np.allclose(drawn.qpos[i, :count, 7:], expected[:, 7:], atol=1e-6)
        assert np.allclose(drawn.qpos[i, :count, 2], expected[:, 2], atol=1e-6)
    plain = references.take(np.array([0]), np.array([10]))
    assert (plain.qpos[0] == motions[0].qpos[10 : 10 + LENGTH]).all()
    again = CorpusReferences(corpus, length=LENGTH, shortest=SHORTEST, augment=Augment(mirror=1.0, speeds=(1.0,)))
    again.draw(1)
    assert (references.draw(5).qpos == again.draw(5).qpos).all()  # taking changed nothing


def test_motions_at_another_rate_are_refused(motions):
    with pytest.raises(MotionloomError, match="50 Hz"):
        ClipReferences([RobotMotion(motions[0].qpos, 30.0)])
    with pytest.raises(MotionloomError, match="one or more"):
        ClipReferences([])
