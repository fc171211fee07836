"""What is damaged or stands in the way is set aside, never deleted: `quarantine/` of a corpus, until `loom gc` clears it."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

from corpus.durable import sync
from corpus.errors import CorruptShard, MotionloomError
from corpus.store import Shard
from pipelines import plan

log = logging.getLogger(__name__)

FOLDER = "quarantine"


def set_aside(out: Path, path: Path, why: str) -> Path:
    """Move a file or folder of a corpus to its quarantine, by one rename, under a name that is still free."""
    folder = out / FOLDER
    folder.mkdir(exist_ok=True)
    place = next(p for n in itertools.count() if not (p := folder / f"{path.name}.{n}").exists())
    path.rename(place)
    sync(folder)
    sync(path.parent)
    log.warning("%s is set aside as %s: %s", path.relative_to(out), place.relative_to(out), why)
    return place


def set_aside_torn(out: Path) -> list[str]:
    """Take away what a power cut can leave of a finished shard or a plan: files that are gone or too short.

    Gives the names of the shards. Sizes are looked at, not every byte: that is `verify_shard`'s work.
    """
    torn = []
    for shard in sorted(plan.finished_shards(out)):
        try:
            Shard.open(out / "shards" / shard)
        except CorruptShard as error:
            set_aside(out, out / "shards" / shard, str(error))
            torn.append(shard)
    try:
        plan.read_plan(out)
    except MotionloomError as error:
        set_aside(out, max((out / "plans").glob("[0-9]*.parquet")), str(error))
    return torn
