"""Lay one motion over another: the tempo and shift at which they are nearest, and how far apart they then are.

Second t of the first motion is second `shift_s + tempo · t` of the other. From a guess at one instant both numbers are refined by
Gauss-Newton on all pose channels, first over a second around it, then over twice as much again and again, as long as the motions
are alike; so a guess need not be good far from where it was made. What they share is the time around the guess in which they stay
near: all of one or both, or less where one was cut and goes on otherwise. Between samples the other motion is read by a cubic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from hme.duplicates.traces import TRACE_FPS, pose_channels
from hme.feature_kernel import ROOT_CHANNELS
from hme.features import JOINTS, TURN, VELOCITY

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
ALIKE = 0.03
"""Joints, and the root likewise, stay nearer than this while motions are alike, on average over half a second [rad]."""
CUT_S = 0.3
"""Where motions cease to be alike, so much less counts as shared: the low-pass mixes what lies on both sides [s]."""
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
    pair = _Pair(a[:, poses], b[:, poses], guess.time_s)
    fit, width, longest = None, FIRST_S, max(len(a), len(b)) / TRACE_FPS
    tempo, shift = guess.tempo, guess.other_s - guess.tempo * guess.time_s
    while width < 2 * longest:
        found = pair.settled(tempo, shift, guess.time_s - width, guess.time_s + width)
        if found is None:
            break
        fit, width = found, 2 * width
        tempo, shift = found
    if fit is None:
        return None
    first, last = _alike(a, b, fit, guess.time_s)
    if len(pair.shared(*fit)) > last - first + 1:
        # What lies beyond has pulled at the fit.
        fit = pair.settled(*fit, first / TRACE_FPS, last / TRACE_FPS)
        if fit is None:
            return None
        first, last = _alike(a, b, fit, guess.time_s)
    return _judged(a, b, fit, first, last) if last - first + 1 >= LEAST_SAMPLES else None


Fit = tuple[float, float]
"""Tempo, and shift [s]."""


class _Pair:
    """The poses of two motions, to be fitted about an instant of the first."""

    def __init__(self, a: Float[np.ndarray, "T P"], b: Float[np.ndarray, "R P"], middle_s: float):
        self.a, self.b, self.middle_s = a, Cubic(b), middle_s

    def shared(
        self, tempo: float, shift: float, from_s: float = -np.inf, to_s: float = np.inf
    ) -> Int[np.ndarray, " N"]:
        return _shared(len(self.a), len(self.b), tempo, shift, from_s, to_s)

    def settled(self, tempo: float, shift: float, from_s: float, to_s: float) -> Fit | None:
        """The nearest tempo and shift, by what is shared within these times; None where even so the motions are not alike."""
        apart = np.inf
        for _ in range(STEPS):
            at = self.shared(tempo, shift, from_s, to_s)
            if len(at) < LEAST_SAMPLES:
                return None
            apart, more_tempo, more_shift = self._refined(at, tempo, shift)
            tempo, shift = tempo + more_tempo, shift + more_shift
            if not TEMPO_RANGE[0] <= tempo <= TEMPO_RANGE[1]:
                return None
            if abs(more_shift) < SETTLED and abs(more_tempo) * (to_s - from_s) < SETTLED:
                break
        return (tempo, shift) if apart <= HOPELESS else None

    def _refined(self, at: Int[np.ndarray, " N"], tempo: float, shift: float) -> tuple[float, float, float]:
        """The distance at this tempo and shift, and what to add to them."""
        other, slope = self.b(tempo * at + shift * TRACE_FPS)
        off = self.a[at[0] : at[-1] + 1] - other
        # By moving it, and by stretching it about the middle.
        away = at - self.middle_s * TRACE_FPS
        energy, along = np.einsum("np,np->n", slope, slope), np.einsum("np,np->n", slope, off)
        both, pull, pull_away = energy @ away, along.sum(), along @ away
        # A little stiffness, for where nothing moves.
        still, stiff = 1.001 * energy.sum() + 1e-6, 1.001 * (energy @ away**2) + 1e-6
        whole = still * stiff - both * both
        move = float(np.clip((stiff * pull - both * pull_away) / whole, -5, 5))
        stretch = float(np.clip((still * pull_away - both * pull) / whole, -0.05, 0.05))
        return float(np.sqrt(np.vdot(off, off) / off.size)), stretch, move / TRACE_FPS - stretch * self.middle_s


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


def _shared(
    count: int, other_count: int, tempo: float, shift: float, from_s: float = -np.inf, to_s: float = np.inf
) -> Int[np.ndarray, " N"]:
    """Samples of the first motion that the other has too, between these times."""
    first = max(EDGE_S, (EDGE_S - shift) / tempo, from_s) * TRACE_FPS
    last = min((count - 1) / TRACE_FPS - EDGE_S, ((other_count - 1) / TRACE_FPS - EDGE_S - shift) / tempo, to_s)
    return np.arange(int(np.ceil(first - 1e-6)), int(np.floor(last * TRACE_FPS + 1e-6)) + 1)


def _off(
    a: Float[np.ndarray, "T C"], b: Float[np.ndarray, "R C"], fit: Fit, at: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N C"]:
    """How far the first is off the other in all channels, speeds by `SPEED_SCALE_S`."""
    tempo, shift = fit
    other, _ = Cubic(b)(tempo * at + shift * TRACE_FPS)
    off = a[at] - other
    for speeds in (VELOCITY, TURN):
        # What is shown faster moves faster.
        off[:, speeds] = SPEED_SCALE_S * (a[at][:, speeds] - tempo * other[:, speeds])
    return off


def _alike(a: Float[np.ndarray, "T C"], b: Float[np.ndarray, "R C"], fit: Fit, middle_s: float) -> tuple[int, int]:
    """First and last sample of the time around the middle in which both stay near; the last before the first where none is."""
    at = _shared(len(a), len(b), *fit)
    if len(at) < LEAST_SAMPLES:
        return 0, -1
    square = _off(a, b, fit, at) ** 2
    worse = np.maximum(square[:, JOINTS].mean(1), square[:, :ROOT_CHANNELS].mean(1))
    level = ndimage.uniform_filter1d(worse, min(round(0.5 * TRACE_FPS), len(at)), mode="nearest")
    middle = int(np.clip(round(middle_s * TRACE_FPS) - at[0], 0, len(at) - 1))
    far = np.flatnonzero(level > ALIKE**2)
    before, after = far[far <= middle], far[far > middle]
    margin = round(CUT_S * TRACE_FPS)
    first = at[0] if not len(before) else at[before[-1]] + 1 + margin
    last = at[-1] if not len(after) else at[after[0]] - 1 - margin
    return int(first), int(last)


def _judged(a: Float[np.ndarray, "T C"], b: Float[np.ndarray, "R C"], fit: Fit, first: int, last: int) -> Alignment:
    tempo, shift = fit
    at = np.arange(first, last + 1)
    off, whole = _off(a, b, fit, at), _shared(len(a), len(b), *fit)
    joints = (off[:, JOINTS] ** 2).mean(1)
    second = min(int(TRACE_FPS), len(at))
    total = np.concatenate([[0.0], np.cumsum(joints, dtype=np.float64)])
    length, other_length = (len(a) - 1) / TRACE_FPS, (len(b) - 1) / TRACE_FPS
    return Alignment(
        tempo,
        shift,
        # Ends that are not compared are shared where what lies beside them is.
        start_s=max(0.0, -shift / tempo) if first == whole[0] else first / TRACE_FPS,
        stop_s=min(length, (other_length - shift) / tempo) if last == whole[-1] else last / TRACE_FPS,
        joint_distance=float(np.sqrt(joints.mean())),
        root_distance=float(np.sqrt((off[:, :ROOT_CHANNELS] ** 2).mean())),
        worst_distance=float(np.sqrt(max((total[second:] - total[:-second]).max() / second, 0.0))),
        spread=float(np.sqrt(a[at][:, JOINTS].var(0).mean())),
    )
