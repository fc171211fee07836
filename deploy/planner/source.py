"""A plan as a reference to follow."""

from __future__ import annotations

import numpy as np

from corpus.motion import CORPUS_FPS, RobotMotion, velocity
from deploy.planner.commands import Commander, Limits
from deploy.planner.index import Index
from deploy.planner.plan import Planner, PlanOptions
from deploy.reference import Preview


class PlannedSource:
    """A motion made while it is followed: the commander is asked each time the plan goes on.

    The plan goes on from the end of what was shown: frames that a policy has seen coming do come, as in the motions it was
    trained on. The price is that a command shows after the preview, with frames (0, 1, 4, 10) after 0.2 to 0.32 s.
    """

    def __init__(
        self,
        index: Index,
        commander: Commander,
        frames: tuple[int, ...] = (0, 1, 4, 10),
        *,
        options: PlanOptions = PlanOptions(),
        limits: Limits = Limits(),
    ):
        self.name, self.commander, self.frames = "planner", commander, np.array(frames)
        self.planner = Planner(index, options, limits)
        start = self.planner.shown
        self.qpos, self.velocity, self.now = np.stack([start, start]), np.zeros((1, 35)), 0
        self.going = False

    def begin(self) -> None:
        """From now on commands are heard; until then it stands where it begins."""
        self.going = True

    def look(self, now_s: float) -> Preview:
        if not self.going:
            still = np.tile(self.qpos[0], (len(self.frames), 1))
            return Preview(still, np.zeros((len(self.frames), self.velocity.shape[1])))
        while len(self.velocity) <= self.now + self.frames[-1]:
            self._plan(now_s)
        chosen = self.now + self.frames
        self.now += 1
        return Preview(self.qpos[chosen + 1], self.velocity[chosen])

    def close(self) -> None:
        self.commander.close()

    def _plan(self, now_s: float) -> None:
        """One block more, and away with what has passed. `qpos` holds one frame before those of `velocity`, and one after."""
        gone, self.now = self.now, 0
        made = self.planner.advance(self.commander.now(now_s))
        self.qpos = np.concatenate([self.qpos[gone:], made])
        fresh = self.qpos[len(self.velocity) - gone :]
        told = velocity(RobotMotion(fresh, CORPUS_FPS))[1:-1]
        self.velocity = np.concatenate([self.velocity[gone:], told])
