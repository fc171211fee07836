"""The referee of a run on the robot or in a simulator: how well it followed, by the rules and figures of `loom evaluate`, how
punctual the controller was, and what happened.

    judged = judge_run(Path("today.g1run"))
    print(as_text(judged))
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from corpus.durable import replace_file
from corpus.errors import MotionloomError
from corpus.motion import CORPUS_FPS, velocity
from corpus.recording import Recording
from corpus.stretches import TRACKING
from pipelines.run_pairs import Pair, followed
from trainer import scoreboard
from trainer.evaluate import judge
from trainer.rules import RULES

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
    """A row per stage, one of all together ("step"), and one of the control period: name, p50_ms, p99_ms, max_ms, count."""
    about: dict[str, Any]
    """steps, late, lost, cut_bytes, unjudged, root ("odometry" or "truth"), modes [s], facts, contract (its hash)."""
    events: tuple[dict[str, Any], ...]


def judge_run(path: Path, truth: Path | None = None) -> Judged:
    """Every stretch of a run judged. `truth` is what `loom deploy sim --truth` wrote beside it."""
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


def timings(recording: Recording) -> pl.DataFrame:
    """How long each stage took while the robot followed, all of them together ("step"), and from one step to the next."""
    period = np.diff(recording.time_s)[np.diff(recording.number) == 1]
    tracked = recording.mode == TRACKING  # a policy that has nothing to do takes no time
    stages = {name: np.asarray(seconds, float)[tracked] for name, seconds in recording.stages.items()}
    taken = {**stages, "step": sum(stages.values(), np.zeros(int(tracked.sum()))), "period": period}
    rows = []
    for name, seconds in taken.items():
        known = 1e3 * np.asarray(seconds, float)[np.isfinite(seconds)]
        if known.any():  # what is written down before it is over says 0
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


def _judged(recording: Recording, pair: Pair) -> dict[str, Any]:
    assert pair.asked is not None
    speed = velocity(pair.robot)
    speed[:, 6:] = pair.joint_speed
    found = judge(pair.robot.qpos, speed, pair.asked.qpos, velocity(pair.asked))
    broken_off = _broken_off(recording, pair.stop)
    if broken_off:  # whoever gives up before a rule sees him fall has not followed to the end either
        found |= {f"{name}_success": False for name in RULES}
    return found | {"broken_off": broken_off}


def _broken_off(recording: Recording, stop: int) -> bool:
    """Did the controller give up after this stretch? It damps, or it has told a fault as it left the mode."""
    if stop >= len(recording.mode):
        return False
    if recording.mode[stop] == GIVEN_UP:
        return True
    last, then = recording.time_s[stop - 1], recording.time_s[stop]
    return any(last < event["time_s"] <= then and event["name"] != "mode" for event in recording.events)


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
