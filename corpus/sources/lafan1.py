"""LAFAN1 (Ubisoft): BVH in centimetres, y up, 30 Hz, 22 joints; CC BY-NC-ND 4.0."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion
from corpus.sources.bvh import LAFAN1_LICENCE, known_motion, known_skeleton, refuse_obstacles
from corpus.sources.bvh_file import read_bvh
from corpus.sources.files import demand_suffix, open_path, scan_files, stem
from corpus.sources.options import LoadOptions

TAKE_NAME = re.compile(r"(?P<label>[A-Za-z]+)\d*_(?P<subject>subject\d+)(?=_|$)")


def scan(root: Path) -> Iterator[Clip]:
    """Names such as `dance1_subject2.bvh` tell content and subject; a part of a take, `…__f0_1800.bvh`, shares its recording."""
    for clip in scan_files(root, "lafan1", LAFAN1_LICENCE):
        take = TAKE_NAME.match(stem(clip))
        if take:
            yield replace(clip, recording=take[0], label=take["label"], subject=take["subject"])
        else:
            yield replace(clip, recording=stem(clip))


def load(root: Path, clip: Clip, options: LoadOptions) -> HumanMotion:
    """A take in metres, z up; `Rejected` where it is broken, or needs things to climb on."""
    demand_suffix(clip, ".bvh")
    refuse_obstacles(clip)
    file = read_bvh(open_path(root, clip))
    if known_skeleton(file) != "lafan1":
        has = ", ".join(file.joint_names)[:1000]
        raise Rejected("unknown_skeleton", f"not LAFAN1's 22 joints: read it by the source 'bvh'. Has: {has}")
    return known_motion(file, "lafan1")
