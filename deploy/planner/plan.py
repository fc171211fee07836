"""Motion matching: every 100 ms look for the frame of a corpus from which the motion goes on most nearly as commanded, and jump
there if that is clearly better than going on.

What is asked for is a way for the next second: springs draw velocity and heading towards the command. Between jumps the corpus's
motion is played, its way bent a little towards the command; jumps are blended by springs on offsets, so that positions and
velocities go on without a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.g1 import G1
from deploy import springs
from deploy.outline import lowest
from deploy.planner.aim import DT, Aim, Way
from deploy.planner.blend import CLEARANCE, JOINTS, TILT, TURNING, WAY, Blend, between, lean
from deploy.planner.commands import STAND, Command, Limits, sane
from deploy.planner.features import AHEAD, COLUMNS, WIDTH, wrap
from deploy.planner.index import Index

ABOUT = 0.1
"""Heights of the pelvis that differ by less count as the same [m]."""
LIVELY = 2.0
"""Mean joint speed of the motions that a style begins with, as far as it has any [rad/s]."""
LEAST_POSE = 0.1
"""What the posture counts at least."""
SETTLED = AHEAD[1]
"""Frames over which the speed of a motion is taken: about a step of walking."""


@dataclass(frozen=True)
class PlanOptions:
    """How a plan follows commands."""

    velocity_half_life_s: float = 0.2
    """Of the way from one commanded velocity to the next."""
    facing_half_life_s: float = 0.25
    """Likewise of the heading, which besides turns no faster than `Limits.turn_rate`."""
    blend_half_life_s: float = 0.12
    """Of what is left of a motion after a jump; longer where the next two ask for it."""
    blend_speed: float = 3.0
    """How fast a blend alone may move a joint [rad/s]."""
    blend_acceleration: float = 200.0
    """How suddenly it may start to [rad/s²]."""
    longest_blend_s: float = 0.4
    """The longest half-life, for jumps to quite another posture."""
    gain: float = 0.8
    """A jump must cost at most this share of going on; nearer to 1 jumps more often."""
    margin: float = 0.03
    """By how much it must be cheaper besides: less, and a robot that stands starts to fidget."""
    warp: float = 0.1
    """How far the way may be bent: the change of velocity as a share of the motion's own speed."""
    turn_warp: float = 0.4
    """How fast the heading may be turned beside the motion's own turning, in a motion of 1 m/s [rad/s]."""
    still_speed: float = 0.12
    """Slower is standing; and farther than this from what is wanted is astray [m/s]."""
    insistence: float = 0.8
    """What the posture counts after each search whose motion goes astray, as a share of what it counted before: where nothing fits
    both, the command wins after a second or so."""
    patience: int = 10
    """After how many such searches a robot that should stand holds a frame: the corpus holds nobody who stands."""


class Planner:
    """Frames at 50 Hz, one block of `Index.every` after another."""

    def __init__(self, index: Index, options: PlanOptions = PlanOptions(), limits: Limits = Limits()):
        self.index, self.options, self.limits = index, options, limits
        self.jumps = 0
        self.place, self.heading = np.zeros(2), 0.0
        self.aim = Aim(
            velocity_half_life_s=options.velocity_half_life_s, facing_half_life_s=options.facing_half_life_s,
            turn_rate=limits.turn_rate, every=index.every,
        )  # fmt: skip
        self.bent = np.zeros(3)  # of the way and of turning, in the heading's frame
        self.held, self.astray = False, 0
        self.blend = Blend.none(options.blend_half_life_s)
        self.row, _ = self._search(self._still(int(index.order[0])), self._weights(STAND), STAND)
        self.shown = self.shown_before = self._at(index.qpos[index.frame_of(self.row)])
        self.moved = np.zeros(3)

    def advance(self, command: Command) -> Float[np.ndarray, "T 36"]:
        """The next `Index.every` frames."""
        command = sane(command, self.limits)
        way = self.aim.follow(command, self.heading)
        self._choose(command, way)
        return self._play(way)

    # --- what is asked for

    def _wanted(self, command: Command, way: Way) -> Float[np.ndarray, " D"]:
        """The commanded columns of a row that goes where it should; the others are the mean."""
        raw, (path, change) = self.index.mean.astype(np.float64), way.ahead()
        raw[COLUMNS["path"]] = path.ravel()
        raw[COLUMNS["facing"]] = np.stack([np.cos(change), np.sin(change)], -1).ravel()
        raw[COLUMNS["height_ahead"]] = self.index.about["upright"] if command.height is None else command.height
        raw[COLUMNS["stir"]] = LIVELY if self._is_free(command) else 0.0
        return self.index.scale(raw)

    def _weights(self, command: Command) -> Float[np.ndarray, " D"]:
        """Which columns count: a style brings its own height, and its own way where no other is asked for; and only who stands
        without a style should be calm."""
        weight, columns = np.ones(WIDTH, np.float32), self.index.block_columns
        styled = command.style in self.index.style_names
        if command.height is None and styled:
            weight[columns["height"]] = 0
        if any(command.velocity) or styled:
            weight[columns["stir"]] = 0
        if self._is_free(command):
            weight[columns["way"]] = 0
        return weight

    def _is_free(self, command: Command) -> bool:
        """Whether a style is asked for and nothing else: then its motions are played as they come."""
        asked = any(command.velocity) or command.facing is not None or command.height is not None
        return command.style in self.index.style_names and not asked

    # --- where to go on

    def _choose(self, command: Command, way: Way) -> None:
        """Go on, jump, or hold."""
        if self.held and not any(command.velocity) and command.style is None and command.height is None:
            return
        wanted, weight, row = self._wanted(command, way), self._weights(command), self.row
        pose = self.index.block_columns["pose"]
        astray, elsewhere = (False, False) if self._is_free(command) else self._goes_astray(command, way)
        self.astray = self.astray + 1 if astray else 0
        weight[pose] *= max(self.options.insistence**self.astray, LEAST_POSE)
        query = np.where(pose, self.index.features[row], wanted).astype(np.float32)
        if self.held or not self._may_go_on(row, command):
            if self._is_free(command):  # or it would begin where the one before ended, at rest
                weight[self.index.block_columns["stir"]] = 1
            best, _ = self._search(query, weight, command)
            self._jump(best)
        else:
            difference = self.index.features[row] - query
            bound = self.options.gain * float(difference * difference @ weight) - self.options.margin
            best, _ = self._search(query, weight, command, bound)
            if best >= 0 and not self._next_to(best):
                self._jump(best)
        if elsewhere and self.astray > self.options.patience and not any(command.velocity) and command.style is None:
            self._hold(command)

    def _goes_astray(self, command: Command, way: Way) -> tuple[bool, bool]:
        """Whether what is played goes elsewhere than it should, or is at another height; and whether it goes elsewhere."""
        wanted = way.mean(SETTLED * DT)
        off = np.hypot(*(self._way_ahead() - wanted)[:2])
        elsewhere = bool(off > self.options.still_speed + 0.1 * np.hypot(*wanted[:2]))
        height = self.index.qpos[self.index.frame_of(self.row), 2]
        return elsewhere or (command.height is not None and abs(height - command.height) > ABOUT), elsewhere

    def _hold(self, command: Command) -> None:
        """Stand as still as the corpus lets it: where even that motion goes somewhere, hold its frame."""
        best, _ = self._search(self._still(self.row), self._weights(command), command)
        self._jump(best)
        self.held = bool(np.hypot(*self._way_ahead()[:2]) > self.options.still_speed)

    def _still(self, row: int) -> Float[np.ndarray, " D"]:
        """A frame like that of the row, which neither moves nor is about to."""
        raw = np.array(self.index.raw(self.index.features[row]), np.float64)
        for name in ("path", "velocity", "turning", "feet_velocity", "stir"):
            raw[COLUMNS[name]] = 0
        raw[COLUMNS["facing"]] = [1, 0] * len(AHEAD)
        raw[COLUMNS["height_ahead"]] = self.index.about["upright"]
        return self.index.scale(raw).astype(np.float32)

    def _search(
        self, query: Float[np.ndarray, " D"], weight: Float[np.ndarray, " D"], command: Command, bound: float = np.inf
    ) -> tuple[int, float]:
        rows, boxes = None, None
        if command.style in self.index.style_names:
            rows, boxes = self.index.mask(str(command.style))
            if not boxes.any():
                rows = boxes = None
        return self.index.boxes.nearest(query, weight, bound=bound, boxes=boxes, allowed=rows)

    def _may_go_on(self, row: int, command: Command) -> bool:
        """Whether the motion has frames left, and the style that is asked for."""
        motion = self.index.motion_of_row[row]
        left = self.index.motions[motion].sum() - 1 - self.index.frame_of(row)
        if command.style not in self.index.style_names:
            return left >= self.index.every
        rows, boxes = self.index.mask(str(command.style))
        return left >= self.index.every and (bool(rows[row]) or not boxes.any())

    def _next_to(self, row: int) -> bool:
        """Whether a row is all but where the plan is: a jump there would change nothing."""
        same = self.index.motion_of_row[row] == self.index.motion_of_row[self.row]
        return bool(same and abs(row - self.row) <= 2)

    def _jump(self, row: int) -> None:
        """Go on from another row; what was shown last stays, and how fast it moved."""
        self.jumps += 1
        qpos, frame = self.index.qpos, self.index.frame_of(row)
        here, there = (np.asarray(qpos[f], np.float64) for f in (frame, frame + 1))
        floor = lowest(np.stack([self.shown_before, self.shown, here, there]))
        offset, before = between(self.shown, here), between(self.shown_before, here)
        # Leading out of `here`: how far the shown frames moved in their last step, less what the motion does in its next.
        rate = (offset - before + between(here, there)) / DT
        clear = floor[1] - floor[2]
        sink = (floor[1] - floor[0] - floor[3] + floor[2]) / DT
        way = self.moved - self.bent - _steps(np.stack([here, there]))[0] / DT
        options = self.options
        half_life_s = springs.half_life_for(
            offset, rate, speed=options.blend_speed, acceleration=options.blend_acceleration,
            shortest_s=options.blend_half_life_s, longest_s=options.longest_blend_s,
        )  # fmt: skip
        self.blend = Blend(
            np.concatenate([offset, [clear], way]), np.concatenate([rate, [sink], np.zeros(3)]), half_life_s
        )
        self.row, self.held, self.astray = row, False, 0

    # --- playing it

    def _play(self, way: Way) -> Float[np.ndarray, "T 36"]:
        every, frame = self.index.every, self.index.frame_of(self.row)
        times = DT * np.arange(1, every + 1)
        ahead = np.full(every + 1, frame) if self.held else np.arange(frame, frame + every + 1)
        source = np.asarray(self.index.qpos[ahead], np.float64)
        offset, rate = self.blend.after(times)
        bent, _ = springs.spring(
            self.bent, np.zeros(3), self._bend(way), self.options.blend_half_life_s, times[:, None]
        )
        moved = _steps(source) / DT + np.concatenate([offset[:, WAY], offset[:, TURNING]], 1) + np.asarray(bent)
        made = self._compose(source[1:], offset, moved)
        self.blend = Blend(offset[-1], rate[-1], self.blend.half_life_s)
        self.bent, self.moved = np.asarray(bent)[-1], moved[-1]
        self.shown_before, self.shown = made[-2] if every > 1 else self.shown, made[-1]
        self.row += 0 if self.held else 1
        return made

    def _compose(
        self, source: Float[np.ndarray, "T 36"], offset: Float[np.ndarray, "T 36"], moved: Float[np.ndarray, "T 3"]
    ) -> Float[np.ndarray, "T 36"]:
        """Frames of the motion with offsets, at the place and heading to which `moved` [m/s, rad/s] leads."""
        headings = self.heading + np.cumsum(np.concatenate([[0.0], moved[:, 2] * DT]))
        steps = (moved[:, 0] + 1j * moved[:, 1]) * np.exp(1j * headings[:-1]) * DT
        places = self.place + np.cumsum(np.stack([steps.real, steps.imag], 1), 0)
        leaning = rotations.multiply(rotations.from_rotation_vector(offset[:, TILT]), lean(source[:, 3:7]))
        made = np.concatenate(
            [places, source[:, 2:3], rotations.multiply(rotations.about_z(headings[1:]), leaning), source[:, 7:]], 1
        )
        made[:, 7:] = self._within_limits(source[:, 7:] + offset[:, JOINTS])
        if not self.blend.over:
            floor = lowest(np.concatenate([source, made])).reshape(2, -1)
            made[:, 2] += floor[0] - floor[1] + offset[:, CLEARANCE][:, 0]
        self.place, self.heading = places[-1], float(headings[-1])
        return made

    def _within_limits(self, joints: Float[np.ndarray, "T 29"]) -> Float[np.ndarray, "T 29"]:
        """No joint beyond its range, nor faster than it can."""
        joints, last, most = np.clip(joints, G1.lower, G1.upper), self.shown[7:], G1.speed_limit * DT
        for number, frame in enumerate(joints):
            joints[number] = last = np.clip(frame, last - most, last + most)
        return joints

    def _bend(self, way: Way) -> Float[np.ndarray, " 3"]:
        """How the motion's way and turning are to be changed, as far as may be."""
        own = self._way_ahead()
        speed, missing = float(np.hypot(*own[:2])), way.mean(SETTLED * DT) - own
        missing[:2] *= min(1.0, self.options.warp * speed / max(float(np.hypot(*missing[:2])), 1e-9))
        most = self.options.turn_warp * min(1.0, speed)
        missing[2] = np.clip(missing[2], -most, most)
        return missing

    def _way_ahead(self) -> Float[np.ndarray, " 3"]:
        """Mean velocity of the motion from here, in its heading [m/s], and its turning [rad/s]."""
        if self.held:
            return np.zeros(3)
        motion, frame = self.index.motion_of_row[self.row], self.index.frame_of(self.row)
        last = min(frame + SETTLED, int(self.index.motions[motion].sum()) - 1)
        return _steps(np.asarray(self.index.qpos[[frame, last]], np.float64))[0] / (max(last - frame, 1) * DT)

    def _at(self, qpos: Float[np.ndarray, " 36"]) -> Float[np.ndarray, " 36"]:
        """A frame, moved to where the plan is."""
        made = np.asarray(qpos, np.float64).copy()
        made[:2], made[3:7] = self.place, rotations.multiply(rotations.about_z(np.array(self.heading)), lean(made[3:7]))
        return made


def _steps(qpos: Float[np.ndarray, "T 36"]) -> Float[np.ndarray, "T-1 3"]:
    """From each frame to the next: x and y in its heading [m], and the heading's change [rad]."""
    headings, step = rotations.heading(qpos[:, 3:7]), np.diff(qpos[:, :2], axis=0)
    cosine, sine = np.cos(headings[:-1]), np.sin(headings[:-1])
    x, y = step.T
    return np.stack([cosine * x + sine * y, cosine * y - sine * x, wrap(np.diff(headings))], 1)
