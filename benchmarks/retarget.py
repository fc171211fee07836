"""How good and how fast the retargeting is, clip by clip, beside a peer's inverse kinematics on the same targets.

    python -m benchmarks.retarget [--frames N]

Real clips of LAFAN1, AMASS, PHUMA and Bandai-Namco. The peer (`benchmarks/peer.py`) solves the targets that our first pass gets;
what stands is read off those targets, the same frames for both. Some of it is drawn in `benchmarks/out/retarget.png`. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.judge import target_errors
from benchmarks.peer import solve_like_gmr
from benchmarks.retarget_picture import Panel, draw
from corpus import rotations
from corpus.errors import Rejected
from corpus.g1 import G1
from corpus.motion import HumanMotion
from corpus.pictures import pick_frames, shapes
from corpus.posture import Postures, postures
from corpus.robot import forward_kinematics
from corpus.sources import source
from corpus.sources.options import LoadOptions
from retarget.footing import hold_feet
from retarget.ground import ground_targets
from retarget.retarget import RetargetOptions, follow, retarget
from retarget.solver import SolverOptions, Targets, join_targets, solve
from retarget.stream import Stream
from retarget.targets import build_targets

SHARED = Path(__file__).resolve().parents[2] / "shared"
OPTIONS = RetargetOptions()
REPEATS = 5
"""Rates are medians of so many runs."""
BANDAI: tuple[str, ...] = ("walk-turn-left", "kick", "wave-both-hands", "run_normal_040")
"""Of Bandai-Namco's takes the first whose name holds the word; the run makes 2.6 m/s."""
PICTURED = ("walk1", "fallAndGetUp3", "run_normal_040")
"""Words of the names of the clips that are drawn."""
PICTURE = Path(__file__).resolve().parent / "out" / "retarget.png"
PICTURED_S, POSES = 6.0, 6
"""How much of a clip is drawn [s], and how many poses of it."""
BATCH_FRAMES = 16384
"""Frames solved at once, as `pipelines.build` does."""
DEEP = 0.02
"""Overlap of two links that counts as a collision [m]."""


@dataclass(frozen=True)
class Row:
    """One clip. Ratios are ours over the peer's."""

    clip: str
    frames: int
    mink: float
    """The peer's frames per core-second."""
    single: float
    """Our first pass alone, over the peer's rate."""
    full: float
    """Both passes, smoothing, footing and measures, over the peer's rate."""
    cost: float
    """Weighted squared error of the first pass."""
    slide: float
    """Level speed of standing heels and toes."""
    slide_mm_s: float
    heights: Float[np.ndarray, " N"]
    """Heights of standing heels and toes [m]."""
    penetration_mm: float
    """Depth that 1 % of them exceed."""
    float_mm: float
    """Height that 1 % of them exceed."""
    jerk: float
    position: float
    orientation: float
    limits: int
    """Frames with a joint beyond its limits."""
    speeds: int
    """Steps beyond a joint's speed limit."""
    collisions: float
    """Share of frames with links 2 cm inside each other where the peer's, on the person's own posture, are not."""
    start: float
    """What 1 % of the joint angles differ by when the clip starts 17 frames later, a second after that start [rad]."""
    stream_ms: Float[np.ndarray, " N"]
    """How long every frame of the same take took, streamed frame by frame [ms of wall-clock time]: the median of three."""
    stream_p99_ms: float
    """What 1 % of them exceed."""
    stream_difference: float
    """Mean difference of the streamed joint angles from those of the whole take at the same rate [rad]."""
    panel: Panel | None
    """What is drawn of it."""


def main() -> None:
    options = _parser().parse_args()
    with threadpool_limits(1):
        rows = [measure(*clip) for clip in clips(options.frames)]
    draw_panels([row.panel for row in rows if row.panel is not None])
    show(rows)
    print(json.dumps(figures(rows)))


def clips(limit: int) -> Iterator[tuple[str, HumanMotion, Targets]]:
    """Real clips by name, and their targets, at most `limit` frames of each."""
    data = SHARED / "data"
    for name, folder in (
        ("lafan1", "lafan1_bvh"),
        ("amass", "amass_smplh"),
        ("amass", "amass_smplx"),
        ("phuma", "phuma"),
    ):
        yield from _of_folder(name, data / folder, limit)
    with tempfile.TemporaryDirectory(prefix="motionloom-bench-") as place:
        with tarfile.open(SHARED / "bench" / "motions.tar.xz", "r|*") as archive:
            wanted, left = [], list(BANDAI)
            for member in archive:
                if member.name.endswith(".bvh") and (word := next((w for w in left if w in member.name), None)):
                    left.remove(word)
                    wanted.append(member)
                    archive.extract(member, place, filter="data")
        yield from _of_folder("bvh", Path(place), limit)


def _of_folder(name: str, root: Path, limit: int) -> Iterator[tuple[str, HumanMotion, Targets]]:
    for clip in source(name).scan(root):
        try:
            human = source(name).load(root, clip, LoadOptions())
            if not isinstance(human, HumanMotion) or human.frame_count < 2 * human.fps:
                continue
            targets, _ = build_targets(human, G1, OPTIONS.fps)
        except Rejected:
            continue
        targets, _ = ground_targets(targets, G1, OPTIONS.fps, OPTIONS.ground)
        yield Path(clip.path).stem[:28], human, targets.part(0, limit)


def measure(name: str, human: HumanMotion, targets: Targets) -> Row:
    peer = solve_like_gmr(G1, targets)
    # As in a corpus build, many clips at once: here the same one again and again.
    batch = join_targets([targets] * -(-BATCH_FRAMES // targets.frame_count))
    single, single_rate = _timed(lambda: solve(G1, batch, SolverOptions()).qpos)
    ours, full_rate = _timed(lambda: follow(batch, G1, OPTIONS).qpos)
    single, ours, theirs = single[: targets.frame_count], ours[: targets.frame_count], peer.qpos
    outside, their_outside = postures(G1, ours), postures(G1, theirs)
    _, stands = hold_feet(targets, G1, OPTIONS.fps, their_outside, OPTIONS.footing)
    height, speed = _footing(outside, stands)
    their_height, their_speed = _footing(their_outside, stands)
    slide, their_slide = float(np.nanmean(speed)), float(np.nanmean(their_speed))
    heights = height[stands]
    position, orientation = (float(error.mean()) for error in target_errors(targets, ours))
    their_position, their_orientation = (float(error.mean()) for error in target_errors(targets, theirs))
    step = np.abs(np.diff(ours[:, 7:], axis=0)) * OPTIONS.fps
    later = follow(targets.part(17, targets.frame_count), G1, OPTIONS).qpos
    stream_ms, stream_difference = streamed(human, targets.frame_count)
    return Row(
        clip=name,
        frames=targets.frame_count,
        mink=peer.frames_per_core_second,
        single=single_rate / peer.frames_per_core_second,
        full=full_rate / peer.frames_per_core_second,
        cost=_cost(targets, single) / _cost(targets, theirs),
        slide=slide / their_slide,
        slide_mm_s=1000 * slide,
        heights=heights,
        penetration_mm=1000 * _high(-heights),
        float_mm=1000 * _high(heights),
        jerk=_jerk(ours) / _jerk(theirs),
        position=position / their_position,
        orientation=orientation / their_orientation,
        limits=int(((ours[:, 7:] < G1.lower - 1e-6) | (ours[:, 7:] > G1.upper + 1e-6)).any(1).sum()),
        speeds=int((step > G1.speed_limit).any(1).sum()),
        collisions=float(((outside.overlap > DEEP) & (their_outside.overlap <= DEEP)).mean()),
        start=float(np.quantile(np.abs(ours[67:, 7:] - later[50:, 7:]), 0.99)) if len(later) > 60 else 0.0,
        stream_ms=stream_ms,
        stream_p99_ms=_high(stream_ms),
        stream_difference=stream_difference,
        panel=panel(name, human, ours, {"peer": (their_height, their_speed), "ours": (height, speed)})
        if any(word in name for word in PICTURED)
        else None,
    )


def panel(
    name: str,
    human: HumanMotion,
    qpos: Float[np.ndarray, "T Q"],
    footing: dict[str, tuple[Float[np.ndarray, "T 4"], Float[np.ndarray, "T 4"]]],
) -> Panel:
    """What is drawn of a clip: a stretch from its middle."""
    count = min(len(qpos), round(PICTURED_S * OPTIONS.fps))
    start = (len(qpos) - count) // 2
    frames = start + np.array(pick_frames(count, POSES))
    joints = human.position[np.minimum(np.round(frames * human.fps / OPTIONS.fps).astype(int), human.frame_count - 1)]
    position, rotation = forward_kinematics(G1, qpos[frames])
    begin, end, radius, _ = shapes(G1, position, rotation)
    forward = rotations.rotate(rotation[0, 0], np.array([1.0, 0.0, 0.0]))
    shown = slice(start, start + count)
    return Panel(
        title=f"{name}: the person (grey) and the robot (blue); standing feet, ours (blue) and the peer's (orange)",
        fps=OPTIONS.fps,
        time=(frames - start) / OPTIONS.fps,
        person=np.stack([joints[:, list(human.skeleton.parents[1:])], joints[:, 1:]], 2),
        robot=np.stack([begin, end], 2),
        radius=radius,
        heading=float(np.arctan2(forward[1], forward[0])),
        height={who: height[shown] for who, (height, _) in footing.items()},
        speed={who: speed[shown] for who, (_, speed) in footing.items()},
    )


def draw_panels(panels: list[Panel]) -> None:
    """Write the picture; where nothing can render, the figures stand alone."""
    try:
        print(f"picture: {draw(panels, PICTURE)}")
    except (ImportError, AttributeError, RuntimeError) as error:  # what MuJoCo raises where EGL is not there
        print(f"no picture: {error}")


def streamed(human: HumanMotion, limit: int) -> tuple[Float[np.ndarray, " N"], float]:
    """Milliseconds for every frame taken after the first second, the median of three runs, and how far the result is from the
    whole take's [rad]."""
    runs, given, stream = [], [], Stream(human.skeleton, human.fps)
    for _ in range(3):
        stream, given, seconds = Stream(human.skeleton, human.fps), [], []
        for position, rotation in zip(human.position[:limit], human.rotation[:limit], strict=True):
            start = time.perf_counter()
            given.append(stream.push(position, rotation))
            seconds.append(time.perf_counter() - start)
        runs.append(1000 * np.array(seconds[:: stream.every])[round(stream.fps) :])
    joints = np.array([posture.qpos[7:] for posture in given if posture is not None])
    whole = retarget(human, G1, replace(OPTIONS, fps=stream.fps)).motion.joint_position
    count = min(len(whole), len(joints))
    return np.median(runs, axis=0), float(np.abs(whole[:count] - joints[:count]).mean())


def figures(rows: list[Row]) -> dict[str, float]:
    def of(name: str) -> list[float]:
        return [value for row in rows if not np.isnan(value := getattr(row, name))]

    return {
        "single_pass_ratio_vs_mink": round(min(of("single")), 1),
        "cost_ratio": round(max(of("cost")), 3),
        "full_ratio_vs_mink": round(min(of("full")), 1),
        "skate_ratio_median": round(statistics.median(of("slide")), 3),
        "skate_ratio_worst": round(max(of("slide")), 3),
        "penetration_p99_mm": round(1000 * _high(-np.concatenate([row.heights for row in rows])), 2),
        "penetration_p99_mm_worst_clip": round(max(of("penetration_mm")), 2),
        "float_p99_mm": round(1000 * _high(np.concatenate([row.heights for row in rows])), 2),
        "float_p99_mm_worst_clip": round(max(of("float_mm")), 2),
        "jerk_ratio": round(statistics.median(of("jerk")), 3),
        "limit_violations": sum(row.limits for row in rows),
        "speed_violations": sum(row.speeds for row in rows),
        "self_collision_frames": round(float(np.average(of("collisions"), weights=[row.frames for row in rows])), 4),
        "start_frame_difference_rad": round(max(of("start")), 4),
        "position_error_ratio": round(statistics.median(of("position")), 3),
        "orientation_error_ratio": round(statistics.median(of("orientation")), 3),
        "stream_ms_per_frame": round(_high(np.concatenate([row.stream_ms for row in rows])), 3),
        "stream_difference_rad": round(statistics.median(of("stream_difference")), 4),
        "mink_frames_per_core_second": round(statistics.median(of("mink")), 1),
        "clips": len(rows),
    }


def show(rows: list[Row]) -> None:
    table = Table(box=None, pad_edge=False)
    names = [field.name for field in fields(Row) if field.name not in ("heights", "stream_ms", "panel")]
    for name in names:
        table.add_column(name, justify="left" if name == "clip" else "right", no_wrap=True)
    for row in rows:
        values = (getattr(row, name) for name in names)
        table.add_row(*(value if isinstance(value, str) else f"{value:.3g}" for value in values))
    Console(width=220).print(table)


def _timed(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """The result, and frames per core-second: the median of several runs after one that does not count."""
    result, seconds = function(), []
    for _ in range(REPEATS):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return result, len(result) / statistics.median(seconds)


def _footing(
    outside: Postures, stands: Bool[np.ndarray, "T 4"]
) -> tuple[Float[np.ndarray, "T 4"], Float[np.ndarray, "T 4"]]:
    """Heights of standing heels and toes [m] and their level speeds from the frame before [m/s]; NaN where they do not stand."""
    points = np.stack([outside.soles[:, outside.sole_group == group].mean(1).T for group in range(4)], 1)
    speed = np.full(stands.shape, np.nan)
    speed[1:] = np.linalg.norm(np.diff(points[:, :, :2], axis=0), axis=2) * OPTIONS.fps
    both = stands & np.roll(stands, 1, axis=0)
    return np.where(stands, points[:, :, 2], np.nan), np.where(both, speed, np.nan)


def _cost(targets: Targets, qpos: np.ndarray) -> float:
    """What both solvers are judged by: our weights' squared errors, posture term included."""
    position, rotation = (part[:, list(targets.bodies)] for part in forward_kinematics(G1, qpos))
    distance = np.linalg.norm(position - targets.position, axis=2) * targets.position_weight
    turn = rotations.multiply(rotation, rotations.conjugate(targets.rotation))
    angle = np.linalg.norm(rotations.to_rotation_vector(turn), axis=2) * targets.rotation_weight
    pull = SolverOptions().posture_weight * qpos[:, 7:]
    return float(((distance**2).sum(1) + (angle**2).sum(1) + (pull**2).sum(1)).mean())


def _jerk(qpos: np.ndarray) -> float:
    third = np.diff(qpos[:, 7:], 3, axis=0) * OPTIONS.fps**3
    return float(np.sqrt((third**2).mean()))


def _high(values: Float[np.ndarray, " N"]) -> float:
    return max(float(np.quantile(values, 0.99)), 0.0) if len(values) else np.nan


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retarget", description="Retargeting beside a peer.")
    parser.add_argument("--frames", type=int, default=1500, help="most frames of a clip (default 1500)")
    return parser


if __name__ == "__main__":
    main()
