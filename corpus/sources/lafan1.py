"""LAFAN1 (Ubisoft): BVH in centimetres, y up, 30 Hz, 22 joints; CC BY-NC-ND 4.0."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion
from corpus.sources.bvh import LAFAN1_JOINTS, LAFAN1_LEG, human_motion, read_bvh
from corpus.sources.files import demand_suffix, open_path, scan_files, stem
from corpus.sources.options import LoadOptions

LICENCE = "CC BY-NC-ND 4.0"


def scan(root: Path) -> Iterator[Clip]:
    """Names such as `dance1_subject2.bvh` tell content, subject and take; copies may append `__…`."""
    for clip in scan_files(root, "lafan1", LICENCE):
        recording, label, subject = take_of(stem(clip))
        yield replace(clip, recording=recording, label=label, subject=subject)


def take_of(name: str) -> tuple[str, str, str]:
    """Recording, label and subject from a file's stem."""
    match = re.match(r"([A-Za-z]+)\d*_(subject\d+)", name)
    return (match[0], match[1], match[2]) if match else (name, name, "")


def load(root: Path, clip: Clip, options: LoadOptions) -> HumanMotion:
    """A take in metres, z up."""
    demand_suffix(clip, ".bvh")
    if stem(clip).startswith("obstacles"):
        raise Rejected("needs_terrain", "the obstacle sequences walk over boxes that are not in the file")
    file = read_bvh(open_path(root, clip))
    names = {name.replace("ToeBase", "Toe") for name in file.joint_names}
    if names != LAFAN1_JOINTS:
        raise Rejected("unknown_skeleton", "not LAFAN1's 22 joints; other BVH files go to the source 'bvh'")
    return human_motion(file, "lafan1", LAFAN1_LEG)
