"""What becomes of a clip: it is read, put on the robot, measured, cut and judged; whatever is wrong with it is a row."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from corpus.contact import detect_contacts
from corpus.errors import Rejected
from corpus.g1 import G1
from corpus.motion import Clip, HumanMotion, RobotMotion
from corpus.posture import join_postures, postures
from corpus.quality import Fit, FrameMeasures, frame_measures, summarise
from corpus.resample import resample
from corpus.segment import Span, cut
from corpus.sources import source
from corpus.sources.options import LoadOptions
from pipelines.recipe import Recipe
from retarget.retarget import Retargeted, retarget_clips


@dataclass(frozen=True)
class Loaded:
    """A clip's row, and its motion as the file has it; None where there is none."""

    row: dict[str, Any]
    raw: HumanMotion | RobotMotion | None

    @property
    def frame_count(self) -> int:
        return 0 if self.raw is None else self.raw.frame_count


@dataclass(frozen=True)
class Processed:
    """What became of a clip."""

    row: dict[str, Any]
    segments: list[dict[str, Any]]
    """Rows of the segments, kept and rejected."""
    lost: list[Span]
    """What was cut away between them."""
    motion: RobotMotion | None
    """At the corpus rate, with its contacts; None where the clip gave none."""
    measures: FrameMeasures | None


def load_clip(clip: Clip, root: Path, load: LoadOptions) -> Loaded:
    """A clip as its source reads it; where the file is bad, the row says why."""
    row = new_row(clip)
    try:
        raw = source(clip.source).load(root, clip, load)
    except Rejected as rejected:
        return Loaded(reject(row, rejected, root), None)
    except Exception as error:
        error.add_note(_name(row))
        raise
    row |= {"source_fps": float(raw.fps), "source_frames": raw.frame_count, "note": raw.note}
    row["body_model"] = raw.body_model if isinstance(raw, HumanMotion) else ""
    return Loaded(row, raw)


def finish(batch: list[Loaded], recipe: Recipe) -> Iterator[Processed]:
    """Retarget and measure a batch, then cut and judge clip by clip."""
    try:
        done = _on_robot(batch, recipe)
        measured = iter(_measure([one for one in done if isinstance(one, Retargeted)], recipe.fps))
    except Exception as error:
        if len(batch) == 1:
            error.add_note(_name(batch[0].row))
            raise
        # One by one it shows whose fault it is.
        for loaded in batch:
            yield from finish([loaded], recipe)
        return
    for loaded, one in zip(batch, done, strict=True):
        if one is None:
            yield Processed(loaded.row, [], [], None, None)
        elif isinstance(one, Rejected):
            yield Processed(reject(loaded.row, one), [], [], None, None)
        else:
            loaded.row["scale"] = one.scale
            motion, measures = next(measured)
            segments, lost = _judge(measures, recipe)
            row = _conclude(loaded.row, motion.frame_count, segments, lost)
            yield Processed(row, segments, lost, motion, measures)


def _name(row: dict[str, Any]) -> str:
    part = f" [{row['part']}]" if row["part"] else ""
    return f"in {row['source']}:{row['path']}{part}"


def _on_robot(batch: list[Loaded], recipe: Recipe) -> list[Retargeted | Rejected | None]:
    """The robot's motion of each clip of a batch; None where there is no motion."""
    humans = [loaded.raw for loaded in batch if isinstance(loaded.raw, HumanMotion)]
    retargeted = iter(retarget_clips(humans, G1, recipe.retarget))
    done: list[Retargeted | Rejected | None] = []
    for loaded in batch:
        if isinstance(loaded.raw, HumanMotion):
            done.append(next(retargeted))
        else:
            done.append(None if loaded.raw is None else _recorded_on_robot(loaded.raw, recipe))
    return done


def _recorded_on_robot(raw: RobotMotion, recipe: Recipe) -> Retargeted | Rejected:
    """Motion that came on the robot, at the corpus rate."""
    motion = resample(raw, recipe.fps)
    if motion.frame_count < 2:
        return Rejected("too_short", "fewer than two frames at the corpus rate", frames=raw.frame_count, minimum=2)
    motion = replace(motion, qpos=np.ascontiguousarray(motion.qpos, np.float32))
    count = motion.frame_count
    return Retargeted(motion, postures(G1, motion.qpos), Fit.unknown(count), None, np.zeros(count))


def _measure(done: list[Retargeted], fps: float) -> list[tuple[RobotMotion, FrameMeasures]]:
    """Motions with their contacts, and their measures frame by frame; all at once."""
    if not done:
        return []
    ends = np.cumsum([one.motion.frame_count for one in done]).tolist()
    starts = [0, *ends[:-1]]
    outside = join_postures([one.outside for one in done])
    contact = detect_contacts(fps, outside, starts)
    measures = frame_measures(
        G1,
        RobotMotion(np.concatenate([one.motion.qpos for one in done]), fps, contact),
        outside,
        Fit.join([one.fit for one in done]),
        starts=starts,
    )
    return [
        (replace(one.motion, contact=contact[start:end]), measures.slice(start, end))
        for one, start, end in zip(done, starts, ends, strict=True)
    ]


def _judge(measures: FrameMeasures, recipe: Recipe) -> tuple[list[dict[str, Any]], list[Span]]:
    """Rows of the segments, kept and rejected, and what is cut away between them."""
    segments, lost = [], []
    for span in cut(measures, recipe.cut):
        if span.reason is not None:
            lost.append(span)
            continue
        quality = summarise(measures, span.start, span.stop)
        segment = {
            "start": span.start,
            "frames": span.stop - span.start,
            "status": "kept",
            "reason": None,
            "numbers": None,
        }
        try:
            recipe.gate.check(quality)
        except Rejected as rejected:
            segment |= {"status": "rejected", "reason": rejected.reason, "numbers": as_json(rejected.numbers)}
        segments.append(segment | vars(quality))
    return segments, lost


def _conclude(row: dict[str, Any], frames: int, segments: list[dict[str, Any]], lost: list[Span]) -> dict[str, Any]:
    """The clip's row with its frames told apart; a clip that kept nothing takes the reason that cost it most."""
    kept = sum(s["frames"] for s in segments if s["status"] == "kept")
    rejected = sum(s["frames"] for s in segments if s["status"] == "rejected")
    cut_away = sum(span.stop - span.start for span in lost)
    if kept + rejected + cut_away != frames:
        raise AssertionError(f"{row['source']}:{row['path']}: spans do not tile the {frames} frames.")
    row |= {"frames": frames, "frames_kept": kept, "frames_rejected": rejected, "frames_cut": cut_away}
    if kept:
        return row | {"status": "kept", "reason": None}
    cost: dict[str, int] = {}
    for span in lost:
        cost[str(span.reason)] = cost.get(str(span.reason), 0) + span.stop - span.start
    for segment in segments:
        cost[segment["reason"]] = cost.get(segment["reason"], 0) + segment["frames"]
    reason = max(sorted(cost), key=lambda name: cost[name])
    return row | {"status": "rejected", "reason": reason, "detail": "no segment was kept", "numbers": as_json(cost)}


def new_row(clip: Clip) -> dict[str, Any]:
    about = {
        name: getattr(clip, name) for name in ("source", "path", "part", "licence", "subject", "recording", "label")
    }
    unknown = dict.fromkeys(("reason", "detail", "numbers", "source_fps", "source_frames", "scale"))
    nothing = dict.fromkeys(("frames", "frames_kept", "frames_rejected", "frames_cut"), 0)
    return {"clip": clip.key, **about, **unknown, **nothing, "status": "rejected", "body_model": "", "note": ""}


def reject(row: dict[str, Any], rejected: Rejected, root: Path | None = None) -> dict[str, Any]:
    detail = rejected.detail
    if root is not None:
        # Where the files lie is no part of the corpus: moved, they give the same bytes.
        detail = detail.replace(f"{root}/", "").replace(str(root), "")
    return row | {"reason": rejected.reason, "detail": detail, "numbers": as_json(rejected.numbers)}


def as_json(numbers: dict[str, Any]) -> str:
    """Numbers as a JSON object; what JSON cannot write (NaN, infinity) stands as text."""

    def plain(value: Any) -> Any:
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        return value if isinstance(value, (int, float, str, bool)) or value is None else str(value)

    return json.dumps({name: plain(value) for name, value in numbers.items()}, sort_keys=True)
