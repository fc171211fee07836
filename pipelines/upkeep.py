"""Let a corpus grow, mend it, and clear away what nobody needs: behind `loom append | repair | gc`."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus import catalog
from corpus.errors import MotionloomError
from corpus.sources.options import LoadOptions
from corpus.store import verify_shard
from pipelines import inventory, plan
from pipelines.build import Outcome, build
from pipelines.place import locked
from pipelines.quarantine import FOLDER, set_aside, set_aside_torn
from pipelines.recipe import Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Repair:
    """What a repair did."""

    set_aside: dict[str, str]
    """Damaged shards, and the first thing that was wrong with each."""
    outcome: Outcome | None
    """The build after it; None where no sources were given."""
    troubles: tuple[str, ...]
    """What is still wrong, a line each."""


@dataclass(frozen=True)
class Orphan:
    """A file or folder of a corpus that nothing refers to."""

    path: Path
    byte_count: int
    why: str


def append(out: Path, sources: dict[str, Path], *, load: LoadOptions | None = None, **options: Any) -> Outcome:
    """Add sources to a corpus by its own recipe: new shards beside the old ones, whose bytes stay as they are.

    `options` are those of `pipelines.build.build`.
    """
    return build(sources, out, stored_recipe(out), load=load, **options)


def repair(
    out: Path, sources: dict[str, Path] | None = None, *, load: LoadOptions | None = None, **options: Any
) -> Repair:
    """Read every byte, set aside what is damaged, fold the catalog anew where it is wrong, and build what is missing.

    Without `sources` nothing is built; what then is missing stands in `troubles`. `options` are those of `build`.
    """
    out = Path(out).resolve()
    recipe = stored_recipe(out)
    bad: dict[str, str] = {}
    with locked(out):
        for shard in sorted(plan.finished_shards(out)):
            if problems := verify_shard(out / "shards" / shard):
                bad[shard] = problems[0]
                set_aside(out, out / "shards" / shard, problems[0])
        set_aside_torn(out)
        catalog.fold(out)
    outcome = build(sources, out, recipe, load=load, **options) if sources else None
    return Repair(bad, outcome, tuple(inventory.troubles(out)))


def orphans(out: Path) -> Iterator[Orphan]:
    """What killed runs, repairs and older plans have left behind."""
    for folder in (out, out / "plans", out / "shards", out / "catalog"):
        for path in sorted(folder.glob(".tmp-*")):
            yield Orphan(path, _size(path), "half made by a run that was killed")
    for path in sorted((out / FOLDER).glob("*")):
        yield Orphan(path, _size(path), "set aside because it was damaged or stood in the way")
    for path in sorted((out / "plans").glob("[0-9]*.parquet"))[:-1]:
        yield Orphan(path, _size(path), "an older plan")
    for path in sorted((out / "shards").glob("[!.]*")):
        if not (path / "shard.json").exists():
            yield Orphan(path, _size(path), "no whole shard: it has no shard.json")


def collect_garbage(out: Path, *, delete: bool) -> list[Orphan]:
    """The orphans of a corpus, deleted if so told; not while a build is going on, whose half-made shards these may be."""
    out = Path(out).resolve()
    stored_recipe(out)
    with locked(out):
        found = list(orphans(out))
        for orphan in found if delete else []:
            shutil.rmtree(orphan.path) if orphan.path.is_dir() else orphan.path.unlink()
    return found


def stored_recipe(out: Path) -> Recipe:
    """The recipe that made a corpus; raises `MotionloomError` where there is no corpus or its recipe is damaged."""
    path = Path(out) / "corpus.json"
    try:
        return Recipe.from_json(json.dumps(json.loads(path.read_text())["recipe"]))
    except FileNotFoundError:
        raise MotionloomError(f"{out} is no corpus: it has no corpus.json.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MotionloomError(
            f"{path} is damaged ({error!r}): run the build that made it again; it writes it anew."
        ) from None


def _size(path: Path) -> int:
    return sum(p.lstat().st_size for p in (path, *path.rglob("*")) if not p.is_dir())
