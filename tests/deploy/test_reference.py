from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import MotionloomError
from corpus.motion import RobotMotion, velocity
from deploy.reference import ClipSource, StandSource
from deploy.stance import standing, swaying

FRAMES = (0, 1, 4, 10)
MOTION = swaying(1.0)


def test_a_clip_waits_still_at_its_first_frame_until_it_is_begun():
    source = ClipSource(MOTION, FRAMES)
    for _ in range(5):
        preview = source.look(0.0)
        assert preview.qpos == pytest.approx(np.tile(MOTION.qpos[0], (4, 1)))
        assert not preview.velocity.any()
        assert preview.status == "live"
    assert source.first == pytest.approx(MOTION.qpos[0])


@given(st.integers(0, 80))
def test_a_clip_shows_each_frame_once_and_then_its_last(frame):
    source, last = ClipSource(MOTION, FRAMES), len(MOTION.qpos) - 1
    source.begin()
    preview = source.look(0.0)
    for _ in range(frame):
        preview = source.look(0.0)
    speed = velocity(MOTION)
    for row, ahead in enumerate(FRAMES):
        at = frame + ahead
        assert preview.qpos[row] == pytest.approx(MOTION.qpos[min(at, last)])
        assert preview.velocity[row] == pytest.approx(speed[at] if at <= last else np.zeros(35))
    assert preview.status == ("ended" if frame > last else "live")


def test_a_clip_may_be_begun_again():
    source = ClipSource(MOTION, FRAMES)
    for _ in range(2):
        source.begin()
        looks = [source.look(0.0) for _ in range(60)]
        assert looks[0].qpos[0] == pytest.approx(MOTION.qpos[0])
        assert looks[-1].status == "ended"


def test_a_clip_at_another_rate_is_refused():
    with pytest.raises(MotionloomError, match=r"30 frames a second; should be resampled to 50"):
        ClipSource(RobotMotion(MOTION.qpos, 30.0), FRAMES)


def test_standing_shows_the_stance_at_all_frames():
    source = StandSource(FRAMES)
    source.begin()
    preview = source.look(7.0)
    assert preview.qpos == pytest.approx(np.tile(standing(), (4, 1)))
    assert not preview.velocity.any()
    assert (preview.status, preview.age_s) == ("live", 0.0)
