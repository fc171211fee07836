"""Motion by formula as a source: tiny JSON files say which movement, so tests and demos need nobody's data.

`walk.motion.json` holds `{"kind": "walk", "seed": 1, "seconds": 4, "height": 1.7}`; `style` and `fps` may be added. The
movements are in `synthetic_moves`, the writers in the data sets' own formats in `synthetic_files` and `synthetic_demo`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpus.errors import Rejected
from corpus.motion import Clip, HumanMotion
from corpus.sources.files import list_files, open_path
from corpus.sources.options import LoadOptions
from corpus.sources.synthetic_body import MEAN_HEIGHT
from corpus.sources.synthetic_demo import write_demo_data
from corpus.sources.synthetic_moves import KINDS, STYLES, human_motion, robot_motion

__all__ = ["KINDS", "STYLES", "human_motion", "load", "robot_motion", "scan", "write_demo_data"]

SUFFIX = ".motion.json"
LICENCE = "CC0-1.0"
LONGEST_S, LARGEST_BYTES = 600.0, 65536
FPS_RANGE, HEIGHT_RANGE = (10.0, 500.0), (1.4, 2.1)


def scan(root: Path) -> Iterator[Clip]:
    for path, byte_count in list_files(root):
        name = path.rsplit("/", 1)[-1].removesuffix(SUFFIX)
        yield Clip(
            "synthetic",
            path,
            LICENCE,
            "formula",
            path.removesuffix(SUFFIX),
            name.replace("_", " "),
            byte_count=byte_count,
        )


def load(root: Path, clip: Clip, options: LoadOptions) -> HumanMotion:
    if not clip.path.endswith(SUFFIX):
        raise Rejected("not_motion", f"synthetic reads *{SUFFIX} files")
    path = open_path(root, clip)
    if path.stat().st_size > LARGEST_BYTES:
        raise Rejected(
            "absurd_size", "a description of a movement is short", bytes=path.stat().st_size, limit=LARGEST_BYTES
        )
    try:
        spec = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise Rejected("truncated", 'expected JSON such as {"kind": "walk", "seed": 1, "seconds": 4}') from None
    if not isinstance(spec, dict):
        raise Rejected("wrong_shape", "expected a JSON object")
    kind, style = spec.get("kind"), spec.get("style", "neutral")
    if "kind" not in spec:
        raise Rejected("missing_key", f"known: {', '.join(KINDS)}", key="kind")
    if str(kind) not in KINDS or str(style) not in STYLES:
        raise Rejected(
            "not_motion", f"known movements: {', '.join(KINDS)}; styles: {', '.join(STYLES)}", kind=str(kind)[:40]
        )
    seed = spec.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise Rejected("wrong_shape", "seed is a whole number from 0", seed=str(seed)[:40])
    fps = _number(spec, "fps", options.fps or 50.0, FPS_RANGE, "bad_frame_rate")
    seconds = _number(spec, "seconds", 4.0, (2 / fps, LONGEST_S), "too_short")
    height = _number(spec, "height", MEAN_HEIGHT, HEIGHT_RANGE, "bad_unit")
    return human_motion(str(kind), seed=seed, seconds=seconds, fps=fps, height=height, style=str(style))


def _number(spec: dict[str, Any], key: str, default: float, limits: tuple[float, float], reason: str) -> float:
    value = spec.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise Rejected("wrong_shape", f"{key} is a number", **{key: str(value)[:40]})
    if not limits[0] <= value <= limits[1]:
        raise Rejected(
            reason if value < limits[0] else "absurd_size" if key == "seconds" else reason,
            f"{key} lies outside what is made",
            **{key: float(value), "minimum": limits[0], "maximum": limits[1]},
        )
    return float(value)
