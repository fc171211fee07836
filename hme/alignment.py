"""Lay one motion over another: the tempo and shift at which they are nearest, and how far apart they then are.

Second t of the first motion is second `shift_s + tempo · t` of the other. From a guess at one instant both numbers are refined by
Gauss-Newton on all pose channels, first over a second around it, then over twice as much again and again until all that the
motions share is in; so a guess need not be good far from where it was made. Between samples the other motion is read by a cubic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hme.feature_kernel import ROOT_CHANNELS
from hme.features import JOINTS, TURN, VELOCITY
from hme.traces import TRACE_FPS, pose_channels

EDGE_S = 0.16
"""Not compared at either end of a motion [s]: the low-pass does not know what came before and after."""
FIRST_S = 0.7
"""Compared at first, to both sides of the guess [s]."""
LEAST_SAMPLES = 10
"""Fewer samples than this tell nothing."""
STEPS = 4
"""Gauss-Newton steps at every width."""
SETTLED = 2e-4
"""Steps that move nothing further than this end the refining at a width [s]."""
TEMPO_RANGE = (0.8, 1.25)
HOPELESS = 0.12
"""Poses that are further apart than this after refining around the guess are given up [rad]."""
SPEED_SCALE_S = 0.1
"""A speed that is off by so much per second counts as much as an angle that is off by 1 rad, or a height by 1 m."""


@dataclass(frozen=True)
class Guess:
    """Where two motions may be alike."""

    time_s: float
    """An instant of the first motion."""
    other_s: float
    """The same instant of the other."""
    tempo: float = 1.0


@dataclass(frozen=True)
class Alignment:
    tempo: float
    """Seconds of the other motion that pass in one of the first."""
    shift_s: float
    """The other motion's time at the first one's start."""
    start_s: float
    stop_s: float
    """What the other covers of the first, in the first's time."""
    joint_distance: float
    """Root mean square over the joints and what is shared [rad], of low-passed motion."""
    root_distance: float
    """Likewise over the root's height [m], gravity, and velocity and angular velocity by `SPEED_SCALE_S`."""
    worst_distance: float
    """The joints' root mean square in the worst second of what is shared [rad]."""
    spread: float
    """How far the joints stray from their mean over what is shared [rad]: little where the motion stands still."""

    @property
    def overlap_s(self) -> float:
        return self.stop_s - self.start_s


def align(a: Float[np.ndarray, "T C"], b: Float[np.ndarray, "R C"], guess: Guess) -> Alignment | None:
    """Two traces near a guess; None where they are not alike there."""
    poses = pose_channels(a.shape[1])
    pair = _Pair(a[:, poses], b[:, poses])
    tempo, shift = guess.tempo, guess.other_s - guess.tempo * guess.time_s
    width, whole, apart = FIRST_S, False, np.inf
    while not whole:
        whole = width > max(len(a), len(b)) / TRACE_FPS
        for _ in range(STEPS):
            at = pair.shared(tempo, shift, guess.time_s, width)
            if len(at) < LEAST_SAMPLES:
                return None
            apart, more_tempo, more_shift = pair.refined(at, tempo, shift, guess.time_s)
            tempo, shift = tempo + more_tempo, shift + more_shift
            if not TEMPO_RANGE[0] <= tempo <= TEMPO_RANGE[1]:
                return None
            if abs(more_shift) < SETTLED and abs(more_tempo) * width < SETTLED:
                break
        if apart > HOPELESS:
            return None
        width *= 2
    return _judged(a, b, tempo, shift)


class _Pair:
    """The poses of two motions, and how the other's change [per sample]."""

    def __init__(self, a: Float[np.ndarray, "T P"], b: Float[np.ndarray, "R P"]):
        self.a, self.b = a.astype(np.float64), b.astype(np.float64)
        self.change = np.gradient(self.b, axis=0)

    def shared(self, tempo: float, shift: float, middle_s: float, width_s: float) -> np.ndarray:
        """Samples of the first motion within `width_s` of `middle_s` that the other has too."""
        return _shared(len(self.a), len(self.b), tempo, shift, middle_s - width_s, middle_s + width_s)

    def refined(self, at: np.ndarray, tempo: float, shift: float, middle_s: float) -> tuple[float, float, float]:
        """The distance at this tempo and shift, and what to add to them."""
        time = tempo * at + shift * TRACE_FPS
        off = self.a[at] - read(self.b, time)
        low = time.astype(np.int64)
        slope = self.change[low]
        # By moving it, and by stretching it about the guess.
        away = at - middle_s * TRACE_FPS
        energy = (slope * slope).sum(1)
        normal = np.array([[energy.sum(), energy @ away], [energy @ away, energy @ away**2]])
        normal += np.diag(1e-6 + 1e-3 * np.diag(normal))
        along = (slope * off).sum(1)
        move, stretch = np.linalg.solve(normal, [along.sum(), along @ away])
        move, stretch = float(np.clip(move, -5, 5)), float(np.clip(stretch, -0.05, 0.05))
        return float(np.sqrt((off * off).mean())), stretch, move / TRACE_FPS - stretch * middle_s


def _shared(count: int, other_count: int, tempo: float, shift: float, first_s: float, last_s: float) -> np.ndarray:
    first = max(EDGE_S, (EDGE_S - shift) / tempo, first_s) * TRACE_FPS
    last = min((count - 1) / TRACE_FPS - EDGE_S, ((other_count - 1) / TRACE_FPS - EDGE_S - shift) / tempo, last_s)
    return np.arange(int(np.ceil(first - 1e-6)), int(last * TRACE_FPS + 1e-6) + 1)


def _judged(a: Float[np.ndarray, "T C"], b: Float[np.ndarray, "R C"], tempo: float, shift: float) -> Alignment | None:
    at = _shared(len(a), len(b), tempo, shift, 0.0, np.inf)
    if len(at) < LEAST_SAMPLES:
        return None
    other = read(b, tempo * at + shift * TRACE_FPS)
    # What is shown faster moves faster.
    other[:, VELOCITY] *= tempo
    other[:, TURN] *= tempo
    off = a[at] - other
    joints = (off[:, JOINTS] ** 2).mean(1)
    off[:, VELOCITY] *= SPEED_SCALE_S
    off[:, TURN] *= SPEED_SCALE_S
    second = min(int(TRACE_FPS), len(at))
    total = np.concatenate([[0.0], np.cumsum(joints)])
    length, other_length = (len(a) - 1) / TRACE_FPS, (len(b) - 1) / TRACE_FPS
    return Alignment(
        tempo,
        shift,
        start_s=max(0.0, -shift / tempo),
        stop_s=min(length, (other_length - shift) / tempo),
        joint_distance=float(np.sqrt(joints.mean())),
        root_distance=float(np.sqrt((off[:, :ROOT_CHANNELS] ** 2).mean())),
        worst_distance=float(np.sqrt(max((total[second:] - total[:-second]).max() / second, 0.0))),
        spread=float(np.sqrt(a[at][:, JOINTS].var(0).mean())),
    )


def read(x: Float[np.ndarray, "T C"], time: Float[np.ndarray, " N"]) -> Float[np.ndarray, "N C"]:
    """Between samples, by the cubic through four of them (Catmull and Rom's)."""
    low = np.clip(time.astype(np.int64), 0, len(x) - 2)
    s = np.clip(time - low, 0, 1)[:, None]
    before, here, after, beyond = (x[np.clip(low + k, 0, len(x) - 1)] for k in (-1, 0, 1, 2))
    return here + 0.5 * s * (
        after - before + s * (2 * before - 5 * here + 4 * after - beyond + s * (3 * (here - after) + beyond - before))
    )
