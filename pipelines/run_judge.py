"""The referee of a run on the robot or in a simulator: how well it followed, by the rules and figures of `loom evaluate`, how
punctual the controller was, and what happened.

    judged = judge_run(Path("today.g1run"))
    print(as_text(judged))
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from corpus import rotations
from corpus.durable import replace_file
from corpus.errors import MotionloomError, Rejected
from corpus.motion import CORPUS_FPS, RobotMotion, velocity
from corpus.recording import Recording, read_recording
from corpus.sources.safe_files import read_npz
from corpus.stretches import Stretch, StretchOptions, measured_motion, reference_motion, spans, stretches, unwrapped
from trainer import scoreboard
from trainer.evaluate import judge
from trainer.rules import RULES

JUDGED = StretchOptions(shortest_s=0.1)
"""Also those who fall at once are judged."""
GIVEN_UP = "damping"
"""The mode in which a controller ends that gives up."""
LATE = 1.5
"""A step that comes later than so many control periods after the one before is late."""
SHOWN = 20
"""Most events that are told one by one."""


@dataclass(frozen=True)
class Judged:
    """What the referee says of a run."""

    outcomes: pl.DataFrame
    """A row per stretch, as `trainer.evaluate.evaluate` has them, with `start_s` and `broken_off`."""
    timings: pl.DataFrame
    """A row per stage, and one of the control period: name, p50_ms, p99_ms, max_ms, count."""
    about: dict[str, Any]
    """steps, late, lost, cut_bytes, unjudged, root ("odometry" or "truth"), modes [s], facts, contract (its hash)."""
    events: tuple[dict[str, Any], ...]


def judge_run(path: Path, truth: Path | None = None) -> Judged:
    """Every stretch of a run judged. `truth` is an npz of a simulator: `tick` (T,) [ms] on the robot's clock, `qpos` (T, 36)."""
    recording, pairs = followed(path, truth)
    judged = [pair for pair in pairs if pair.asked is not None]
    if not judged:
        raise MotionloomError(f"{path}: nothing to judge, no stretch of tracking has a reference all along.")
    rows = [_facts(recording, pair) | _judged(recording, pair) for pair in judged]
    about = _about(recording) | {
        "unjudged": len(pairs) - len(judged),
        "root": "odometry" if truth is None else "truth",
    }
    return Judged(pl.DataFrame(rows, infer_schema_length=None), timings(recording), about, recording.events)


@dataclass(frozen=True, eq=False)
class Pair:
    """A stretch of a run: what the robot did, and what it was to do; both begin in one place, facing one way."""

    name: str
    stretch: Stretch
    stop: int
    """Row of the recording after it."""
    robot: RobotMotion
    asked: RobotMotion | None
    """None where some frames have no reference."""


def followed(path: Path, truth: Path | None = None) -> tuple[Recording, list[Pair]]:
    """A run and all its stretches of tracking, however short."""
    try:
        recording = read_recording(path)
        known = None if truth is None else read_truth(truth)
    except Rejected as rejected:
        raise MotionloomError(f"{path if truth is None else f'{path}, {truth}'}: {rejected}") from None
    pairs = []
    ends = [stop for _, stop in spans(recording, JUDGED)]
    for number, (stretch, stop) in enumerate(zip(stretches(recording, JUDGED), ends, strict=True)):
        robot = measured_motion(stretch) if known is None else _true_motion(stretch, *known)
        try:
            asked = reference_motion(stretch)
        except Rejected:
            asked = None
        robot = robot if asked is None else _aligned(robot, asked)
        pairs.append(Pair(f"track-{number}", stretch, stop, robot, asked))
    return recording, pairs


def read_truth(path: Path) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, "T 36"]]:
    """The simulator's clock [ms] and where the robot really was; `Rejected` where the file says what cannot be."""
    try:
        found = read_npz(path, ["tick", "qpos"])
    except OSError as error:
        raise Rejected("unreadable", str(error)) from None
    if set(found) != {"tick", "qpos"}:
        raise Rejected("missing_key", "a simulator's truth has tick and qpos", key="tick or qpos")
    tick, qpos = found["tick"], found["qpos"]
    if (
        qpos.ndim != 2
        or qpos.shape[1] != 36
        or tick.shape != qpos.shape[:1]
        or len(tick) < 2
        or tick.dtype.kind not in "iu"
    ):
        raise Rejected(
            "wrong_shape", "tick (T,) of whole numbers and qpos (T, 36)", shape=f"{tick.shape}, {qpos.shape}"
        )
    if not np.isfinite(qpos).all() or (np.diff(clock := unwrapped(tick.astype(np.uint32))) <= 0).any():
        raise Rejected("not_finite", "qpos should be numbers, and tick rise")
    return clock, qpos.astype(float)


def timings(recording: Recording) -> pl.DataFrame:
    """How long each stage took, and from one step to the next."""
    period = np.diff(recording.time_s)[np.diff(recording.number) == 1]
    taken = {**recording.stages, "period": period}
    rows = []
    for name, seconds in taken.items():
        known = 1e3 * np.asarray(seconds, float)[np.isfinite(seconds)]
        if len(known):
            middle, high = np.percentile(known, [50, 99])
            rows.append((name, float(middle), float(high), float(known.max()), len(known)))
    columns = {"name": pl.String, "p50_ms": pl.Float64, "p99_ms": pl.Float64, "max_ms": pl.Float64, "count": pl.Int64}
    return pl.DataFrame(rows, columns, orient="row")


def as_text(judged: Judged) -> str:
    """To read: how it went stretch by stretch, figures over all, times, events."""
    about = judged.about
    late = f"{about['late']} late (over {LATE:g} control periods), {about['lost']} lost"
    lines = [f"{about['steps']} steps, {late}; the root's path is from {about['root']}"]
    if about["cut_bytes"]:
        lines.append(f"the file's last {about['cut_bytes']} bytes are torn and left out")
    if about["unjudged"]:
        lines.append(f"{about['unjudged']} stretches are not judged: they have no reference all along")
    lines += ["", *(_told(row) for row in judged.outcomes.iter_rows(named=True)), ""]
    lines += [scoreboard.as_text(scoreboard.scoreboard(judged.outcomes)), "Times [ms]", "=========="]
    lines += [
        f"{row[0]:<12} p50 {row[1]:8.3f}   p99 {row[2]:8.3f}   max {row[3]:8.3f}" for row in judged.timings.rows()
    ]
    return "\n".join([*lines, *_events(judged)]) + "\n"


def write_json(path: Path, judged: Judged) -> None:
    """All of it, a stretch a row."""
    found = {
        "format": 1,
        "about": judged.about,
        "outcomes": _plain(judged.outcomes.to_dicts()),
        "timings": _plain(judged.timings.to_dicts()),
        "events": _plain(list(judged.events)),
    }
    text = json.dumps(found, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _aligned(robot: RobotMotion, asked: RobotMotion) -> RobotMotion:
    """The robot's motion turned and moved over the ground so that it begins where, and as, the reference does."""
    start = float(rotations.heading(asked.root_rotation[0]) - rotations.heading(robot.root_rotation[0]))
    turn = np.broadcast_to(rotations.about_z(np.array(start)), (robot.frame_count, 4))
    place = rotations.rotate(turn, robot.root_position - robot.root_position[0] * [1, 1, 0])
    place = place + asked.root_position[0] * [1, 1, 0]
    turned = rotations.multiply(turn, robot.root_rotation)
    return replace(robot, qpos=np.concatenate([place, turned, robot.joint_position], 1))


def _true_motion(stretch: Stretch, tick: Float[np.ndarray, " T"], qpos: Float[np.ndarray, "T 36"]) -> RobotMotion:
    """The robot's motion as a simulator knows it; joints as measured."""
    at = stretch.tick_ms
    period = 1e3 / CORPUS_FPS
    if at[0] < tick[0] - period or at[-1] > tick[-1] + period:
        raise MotionloomError(
            f"The truth goes from tick {tick[0]:.0f} to {tick[-1]:.0f} ms, the run from {at[0]:.0f} to {at[-1]:.0f} ms."
        )
    low = np.clip(np.searchsorted(tick, at, side="right") - 1, 0, len(tick) - 2)
    share = np.clip((at - tick[low]) / (tick[low + 1] - tick[low]), 0, 1)
    place = qpos[low, :3] * (1 - share[:, None]) + qpos[low + 1, :3] * share[:, None]
    turn = rotations.slerp(rotations.normalise(qpos[low, 3:7]), rotations.normalise(qpos[low + 1, 3:7]), share)
    return RobotMotion(np.concatenate([place, turn, stretch.joint_position], 1), CORPUS_FPS)


def _judged(recording: Recording, pair: Pair) -> dict[str, Any]:
    assert pair.asked is not None
    speed = velocity(pair.robot)
    speed[:, 3:6], speed[:, 6:] = pair.stretch.angular_velocity, pair.stretch.joint_speed
    found = judge(pair.robot.qpos, speed, pair.asked.qpos, velocity(pair.asked))
    broken_off = _broken_off(recording, pair.stop)
    if broken_off:  # whoever gives up before a rule sees him fall has not followed to the end either
        found |= {f"{name}_success": False for name in RULES}
    return found | {"broken_off": broken_off}


def _broken_off(recording: Recording, stop: int) -> bool:
    """Did the controller give up after this stretch, with more to follow?"""
    goes_on = stop < len(recording.mode)
    return bool(goes_on and recording.mode[stop] == GIVEN_UP and recording.status[stop - 1] != "ended")


def _facts(recording: Recording, pair: Pair) -> dict[str, Any]:
    facts = recording.header["facts"]
    return {
        "policy": str(facts.get("policy", "robot")),
        "segment": pair.name,
        "cluster": None,
        "source": "recordings",
        "label": str(facts.get("label", "")),
        "recording": recording.header["recording"],
        "start_s": pair.stretch.start_s - float(recording.time_s[0]),
        "frames": pair.stretch.frame_count - 1,
    }


def _about(recording: Recording) -> dict[str, Any]:
    period = 1 / recording.header["control_hz"]
    steps = np.diff(recording.time_s)
    share = {mode: float((recording.mode == mode).sum() * period) for mode in sorted(set(recording.mode.tolist()))}
    return {
        "steps": len(recording.time_s),
        "late": int((steps > LATE * period).sum()),
        "lost": recording.lost_count,
        "cut_bytes": recording.cut_bytes,
        "modes": share,
        "facts": recording.header["facts"],
        "contract": str(recording.header["contract"].get("hash", "")),
    }


def _told(row: dict[str, Any]) -> str:
    verdicts = ", ".join(f"{name} {'ok' if row[f'{name}_success'] else 'FAILED'}" for name in RULES)
    after = "; the controller gave up" if row["broken_off"] else ""
    seconds = row["frames"] / CORPUS_FPS
    return (
        f"{row['segment']}: {row['start_s']:.1f} s + {seconds:.1f} s: {verdicts}; MPKPE {row['mpkpe_mm']:.1f} mm{after}"
    )


def _events(judged: Judged) -> list[str]:
    if not judged.events:
        return []
    counts = Counter(event["name"] for event in judged.events)
    lines = ["", "Events: " + ", ".join(f"{name} ({count})" for name, count in counts.most_common())]
    for event in judged.events[:SHOWN]:
        numbers = ", ".join(f"{key} {value}" for key, value in event.items() if key not in ("time_s", "name"))
        lines.append(f"  {event['time_s']:.3f} s  {event['name']}{f': {numbers}' if numbers else ''}")
    return lines + (["  …"] if len(judged.events) > SHOWN else [])


def _plain(value: Any) -> Any:
    """Without numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
