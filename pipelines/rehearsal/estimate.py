"""What building a corpus would take on a cluster: a sum of which every factor is shown, with where it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.plan import SHARD_FRAMES

EFFICIENCY = 0.8
"""Share of the paid core time that makes frames: the rest goes to slower files and disks, uneven nodes and second tries."""


@dataclass(frozen=True)
class Factor:
    name: str
    value: float
    unit: str
    origin: Literal["given", "measured", "assumed", "follows"]
    note: str = ""


def estimate(found: dict[str, dict[str, Any]], *, frames: int, clips: int, cores: int) -> list[Factor]:
    """Core-hours, wall time and storage from what the stages of a rehearsal found; downloads are not in it."""
    rate, shards = found["rate"], found["plan"]["shards"]
    per_core = rate["frames_per_core_second"]
    noise = f"{rate['slowest']:,.0f} to {rate['fastest']:,.0f} in {rate['rounds']} builds" if rate["rounds"] else ""
    sums = [
        Factor("frames at the source", frames, "frames", "given"),
        Factor("rate", per_core, "frames/core-second", "measured" if rate["rounds"] else "given", noise),
        Factor("efficiency", EFFICIENCY, "", "assumed", "slower files and disks, uneven nodes, second tries"),
        Factor("cores", cores, "", "given"),
        Factor("core-hours", frames / per_core / EFFICIENCY / 3600, "h", "follows", "frames / rate / efficiency"),
    ]
    return [*sums, *_wall_time(found, sums[-1].value, clips, cores, shards), *_storage(found, frames, clips)]


def workers_fed(found: dict[str, dict[str, Any]], share: float = 1.0) -> float:
    """How many workers keep client and scheduler busy for this share of the time, with shards of `SHARD_FRAMES`."""
    return share * _task_seconds(found) / (found["schedule"]["busy_ms"] / 1000)


def overhead_fraction(found: dict[str, dict[str, Any]], workers: int) -> float:
    """Share of all core time that goes into sending tasks and taking results, with this many workers on one machine.

    While tasks do nothing, all of the workers' time is overhead.
    """
    lost = workers * found["schedule"]["wall_ms"] / 1000
    return lost / (lost + _task_seconds(found))


def _task_seconds(found: dict[str, dict[str, Any]]) -> float:
    return SHARD_FRAMES / found["rate"]["frames_per_core_second"]


def _wall_time(
    found: dict[str, dict[str, Any]], core_hours: float, clips: int, cores: int, shards: int
) -> list[Factor]:
    look, planned, folded, task = found["look"], found["plan"], found["fold"], found["schedule"]
    waves = math.ceil(shards / cores)
    by_cores, by_scheduler = core_hours / shards * waves, shards * task["busy_ms"] / 3.6e6
    bound = f"core-hours / shards · {waves:,}; the scheduler could feed {workers_fed(found):,.0f} workers"
    if by_scheduler > by_cores:
        bound = f"the scheduler's {task['busy_ms']:.1f} ms for each shard: it feeds {workers_fed(found):,.0f} workers"
    planning = (planned["table_seconds"] + planned["keys_seconds"] + planned["deal_seconds"]) / 3600
    seeing = clips * (look["walk_us"] + look["first_us"]) / 3.6e9
    folding = folded["fold_seconds"] / 3600
    return [
        Factor("shards", shards, "", "measured", f"{waves:,} after each other on every core"),
        Factor("walking and opening the files", seeing, "h", "measured", f"{look['files']:,.0f} tiny ones here, each "
               f"{look['walk_us'] + look['first_us']:.0f} µs; reading their bytes comes on top"),
        Factor("planning", planning, "h", "measured"),
        Factor("building", max(by_cores, by_scheduler), "h", "follows", bound),
        Factor("folding the catalog", folding, "h", "measured"),
        Factor("wall time", seeing + planning + max(by_cores, by_scheduler) + folding, "h", "follows", "the four before this, downloads excluded"),
    ]  # fmt: skip


def _storage(found: dict[str, dict[str, Any]], frames: int, clips: int) -> list[Factor]:
    planned, folded = found["plan"], found["fold"]
    per_frame, gigabyte = found["fold"]["bytes_per_frame"], 1e9
    tables = (folded["clips_bytes"] + folded["segments_bytes"]) / gigabyte
    arrays, keys = frames * per_frame / gigabyte, (planned["plan_bytes"] + planned["keys_bytes"]) / gigabyte
    return [
        Factor("bytes of a frame", per_frame, "B", "measured", "qpos and contact with their indices, on made-up shards"),
        Factor("frames", arrays, "GB", "follows", "if every frame were kept"),
        Factor("rows in shards", tables, "GB", "assumed", "as much as the catalog, which repeats them"),
        Factor("catalog", tables, "GB", "measured", f"{folded['clips_rows']:,} clips, {folded['segments_rows']:,} segments"),
        Factor("plan and keys", keys, "GB", "measured"),
        Factor("storage", arrays + 2 * tables + keys, "GB", "follows", "the four before this"),
    ]  # fmt: skip
