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
HOPELESS = 0.06
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
    """The poses of two motions."""

    def __init__(self, a: Float[np.ndarray, "T P"], b: Float[np.ndarray, "R P"]):
        self.a, self.b = a, Cubic(b)

    def shared(self, tempo: float, shift: float, middle_s: float, width_s: float) -> Float[np.ndarray, " N"]:
        """Samples of the first motion within `width_s` of `middle_s` that the other has too."""
        return _shared(len(self.a), len(self.b), tempo, shift, middle_s - width_s, middle_s + width_s)

    def refined(self, at: np.ndarray, tempo: float, shift: float, middle_s: float) -> tuple[float, float, float]:
        """The distance at this tempo and shift, and what to add to them."""
        other, slope = self.b(tempo * at + shift * TRACE_FPS)
        off = self.a[at[0] : at[-1] + 1] - other
        # By moving it, and by stretching it about the guess.
        away = at - middle_s * TRACE_FPS
        energy, along = np.einsum("np,np->n", slope, slope), np.einsum("np,np->n", slope, off)
        both, pull, pull_away = energy @ away, along.sum(), along @ away
        # A little stiffness, for where nothing moves.
        still, stiff = 1.001 * energy.sum() + 1e-6, 1.001 * (energy @ away**2) + 1e-6
        whole = still * stiff - both * both
        move = float(np.clip((stiff * pull - both * pull_away) / whole, -5, 5))
        stretch = float(np.clip((still * pull_away - both * pull) / whole, -0.05, 0.05))
        return float(np.sqrt(np.vdot(off, off) / off.size)), stretch, move / TRACE_FPS - stretch * middle_s


class Cubic:
    """Samples as a curve: between two of them the cubic through the four around (Catmull and Rom's)."""

    def __init__(self, x: Float[np.ndarray, "T C"]):
        here, after = x[:-1], x[1:]
        before, beyond = np.concatenate([x[:1], x[:-2]]), np.concatenate([x[2:], x[-1:]])
        self.powers = np.stack(
            [here, (after - before) / 2, before - 2.5 * here + 2 * after - beyond / 2, (3 * (here - after) + beyond - before) / 2],
            1,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.powers) + 1

    def __call__(self, time: Float[np.ndarray, " N"]) -> tuple[Float[np.ndarray, "N C"], Float[np.ndarray, "N C"]]:
        """Values and slopes [per sample] at these times [samples], which lie between the first and last."""
        low = np.minimum(time.astype(np.int64), len(self.powers) - 1)
        s = (time - low).astype(self.powers.dtype)[:, None]
        c0, c1, c2, c3 = self.powers[low].transpose(1, 0, 2)
        return c0 + s * (c1 + s * (c2 + s * c3)), c1 + s * (2 * c2 + 3 * s * c3)


def _shared(count: int, other_count: int, tempo: float, shift: float, first_s: float, last_s: float) -> np.ndarray:
    first = max(EDGE_S, (EDGE_S - shift) / tempo, first_s) * TRACE_FPS
    last = min((count - 1) / TRACE_FPS - EDGE_S, ((other_count - 1) / TRACE_FPS - EDGE_S - shift) / tempo, last_s)
    return np.arange(int(np.ceil(first - 1e-6)), int(last * TRACE_FPS + 1e-6) + 1)


def _judged(a: Float[np.ndarray, "T C"], b: Float[np.ndarray, "R C"], tempo: float, shift: float) -> Alignment | None:
    at = _shared(len(a), len(b), tempo, shift, 0.0, np.inf)
    if len(at) < LEAST_SAMPLES:
        return None
    other, _ = Cubic(b)(tempo * at + shift * TRACE_FPS)
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
