"""What a user can tell the readers about files that do not say it themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class LoadOptions:
    body_models: Path | None = None
    """Folder with the user's own SMPL-X / SMPL-H files (`smplx` layout); None uses the mean skeleton."""
    skeleton: Path | None = None
    """TOML or JSON file that maps the joints of an unknown BVH skeleton; see `corpus.sources.bvh`."""
    quaternion: Literal["auto", "wxyz", "xyzw"] = "auto"
    """Order of root quaternions in robot CSV files; "auto" decides by the gravity test."""
    fps: float | None = None
    """Frame rate [Hz] of files that carry none; None takes the data set's documented rate."""
