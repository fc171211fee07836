"""The two tables of the catalog: a row per clip and a row per segment."""

from __future__ import annotations

import pyarrow as pa

CLIPS = pa.schema(
    [
        ("clip", pa.string()),  # content key
        ("source", pa.string()),
        ("path", pa.string()),
        ("part", pa.string()),
        ("licence", pa.string()),
        ("subject", pa.string()),
        ("recording", pa.string()),
        ("label", pa.string()),
        ("status", pa.string()),  # "kept": at least one segment is; "rejected"
        ("reason", pa.string()),  # null where kept
        ("detail", pa.string()),
        ("numbers", pa.string()),  # JSON object
        ("source_fps", pa.float64()),  # null where it could not be read
        ("source_frames", pa.int64()),
        ("body_model", pa.string()),
        ("note", pa.string()),
        ("scale", pa.float64()),  # robot leg / human leg
        ("frames", pa.int64()),  # at the corpus rate; = kept + rejected + cut
        ("frames_kept", pa.int64()),
        ("frames_rejected", pa.int64()),
        ("frames_cut", pa.int64()),
        ("shard", pa.string()),
    ]
)

QUALITY = (
    "foot_slide", "floating", "penetration", "airborne_s", "limit_use", "speed_use", "jerk",
    "self_collision", "root_speed", "position_error", "orientation_error", "contact_share",
    "contact_match", "smoothing", "torque_use", "unexplained_force", "support_distance", "pressure_distance",
)  # fmt: skip
"""Columns that come from `corpus.quality.Quality`, in its order; units stand there."""

SEGMENTS = pa.schema(
    [
        ("segment", pa.string()),  # "<first 16 characters of clip>-<start as 6 digits>"
        ("clip", pa.string()),
        ("shard", pa.string()),
        ("row", pa.int64()),  # first row in the shard's arrays; null where rejected
        ("start", pa.int64()),  # first frame within the clip, at the corpus rate
        ("frames", pa.int64()),
        ("status", pa.string()),  # "kept" or "rejected"
        ("reason", pa.string()),
        ("numbers", pa.string()),
        *[(name, pa.float32()) for name in QUALITY],
    ]
)
