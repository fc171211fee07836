"""Readers, one file per data set: `scan` finds clips without loading arrays, `load` turns one into a motion.

A new data set is one new file here, one line in `SOURCES`, and its tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from corpus.errors import UnknownSource
from corpus.motion import Clip, HumanMotion, RobotMotion
from corpus.sources import amass, bvh, lafan1, motionx, phuma, recordings, robot_files, synthetic
from corpus.sources.options import LoadOptions


@dataclass(frozen=True)
class Source:
    """How one data set is found and read."""

    scan: Callable[..., Iterator[Clip]]
    """Every file below a folder, or the one file given, as a `Clip`, in a fixed order; files that are no motion too: `load` says why."""
    load: Callable[[Path, Clip, LoadOptions], HumanMotion | RobotMotion]
    """(root folder, clip, options) → motion in metres, radians, z up; `Rejected` where the data is bad."""
    bytes_per_frame: float
    """About how many bytes of a file make one frame of the corpus (50 Hz); only balances the shards."""


SOURCES: dict[str, Source] = {
    "amass": Source(amass.scan, amass.load, 6500.0),
    "lafan1": Source(lafan1.scan, lafan1.load, 420.0),
    "motionx": Source(motionx.scan, motionx.load, 770.0),
    "phuma": Source(phuma.scan, phuma.load, 170.0),
    "bvh": Source(bvh.scan, bvh.load, 420.0),
    "robot": Source(robot_files.scan, robot_files.load, 300.0),
    "recordings": Source(recordings.scan, recordings.load, 1350.0),
    "synthetic": Source(synthetic.scan, synthetic.load, 1.0),
}


def source(name: str) -> Source:
    """The source of that name, or an error that lists those there are."""
    if name not in SOURCES:
        raise UnknownSource(f"No source named {name!r}. Known: {', '.join(sorted(SOURCES))}.")
    return SOURCES[name]
