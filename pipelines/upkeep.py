"""Let a corpus grow, mend it, and clear away what nobody needs: behind `loom append | repair | gc`."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.catalog import Corpus
from corpus.errors import MotionloomError
from corpus.remote.bucket import is_url
from corpus.remote.mirror import Mirror
from corpus.sources.options import LoadOptions
from corpus.store import verify_shard
from hme.space import strays
from pipelines import bucket_inventory, inventory, plan
from pipelines.build import Outcome, build, fold
from pipelines.place import Folder, leftovers, locked, open_place
from pipelines.quarantine import FOLDER
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

    name: str
    """Below the corpus."""
    byte_count: int
    why: str


UPLOAD = "part of a shard whose upload was never finished"


def append(
    out: Path | str,
    sources: dict[str, Path],
    *,
    load: LoadOptions | None = None,
    cache: Path | None = None,
    **options: Any,
) -> Outcome:
    """Add sources to a corpus by its own recipe: new shards beside the old ones, whose bytes stay as they are.

    `options` are those of `pipelines.build.build`.
    """
    return build(sources, out, stored_recipe(out, cache), load=load, cache=cache, **options)


def repair(
    out: Path | str,
    sources: dict[str, Path] | None = None,
    *,
    load: LoadOptions | None = None,
    cache: Path | None = None,
    **options: Any,
) -> Repair:
    """Read every byte, set aside what is damaged, fold the catalog anew where it is wrong, and build what is missing.

    Without `sources` nothing is built; what then is missing stands in `troubles`. `options` are those of `build`.
    """
    recipe, place = stored_recipe(out, cache), open_place(out, cache)
    bad: dict[str, str] = {}
    with locked(place.folder):
        place.pull()
        for shard, problems in _checked(place, cache):
            if problems:
                bad[shard] = problems[0]
                place.set_aside(shard, problems[0])
        place.set_aside_torn()
        fold(place, changed=True)
    outcome = build(sources, out, recipe, load=load, cache=cache, **options) if sources else None
    return Repair(bad, outcome, tuple(troubles(out, cache)))


def troubles(out: Path | str, cache: Path | None = None) -> Iterator[str]:
    """Everything that is wrong with a corpus, a line each."""
    return bucket_inventory.troubles(str(out), cache) if is_url(out) else inventory.troubles(Path(out).resolve())


def collect_garbage(out: Path | str, *, delete: bool, cache: Path | None = None) -> list[Orphan]:
    """The orphans of a corpus, deleted if so told; not while a build is going on, whose half-made shards these may be."""
    stored_recipe(out, cache)
    place = open_place(out, cache)
    with locked(place.folder):
        if isinstance(place, Mirror):
            found = [Orphan(name, size, UPLOAD) for name, size in bucket_inventory.half_made(place.bucket)]
            place.bucket.delete(orphan.name for orphan in (found if delete else []))
            return found
        found = list(_orphans(place.folder))
        for path in [place.folder / orphan.name for orphan in found] if delete else []:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return found


def stored_recipe(out: Path | str, cache: Path | None = None) -> Recipe:
    """The recipe that made a corpus; raises `MotionloomError` where there is no corpus or its recipe is damaged."""
    path = (bucket_inventory.tables(str(out), cache) if is_url(out) else Path(out)) / "corpus.json"
    try:
        return Recipe.from_json(json.dumps(json.loads(path.read_text())["recipe"]))
    except FileNotFoundError:
        raise MotionloomError(f"{out} is no corpus: it has no corpus.json.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MotionloomError(
            f"{path} is damaged ({error!r}): run the build that made it again; it writes it anew."
        ) from None


def _checked(place: Folder | Mirror, cache: Path | None) -> Iterator[tuple[str, list[str]]]:
    """Every shard, and what is wrong with it."""
    if isinstance(place, Mirror):
        yield from bucket_inventory.check_shards(place.bucket, place.folder, cache)
    else:
        for shard in sorted(plan.finished_shards(place.folder)):
            yield shard, verify_shard(place.folder / "shards" / shard)


def _orphans(out: Path) -> Iterator[Orphan]:
    """What killed runs, repairs and older plans have left behind in a folder."""
    plan.read_plan(out)  # where it is damaged, an older one is all there is
    found = [
        *((path, "half made by a run that was killed") for path in leftovers(out)),
        *((path, "set aside because it was damaged or stood in the way") for path in sorted((out / FOLDER).glob("*"))),
        *((path, "an older plan") for path in sorted((out / "plans").glob("[0-9]*.parquet"))[:-1]),
    ]
    for path in sorted((out / "shards").glob("[!.]*")):
        if not (path / "shard.json").exists():
            found.append((path, "no whole shard: it has no shard.json"))
    if (out / "hme").is_dir():
        found += [(path, "about a shard that is no more") for path in strays(Corpus.open(out))]
        found += [(path, "half made by a run that was killed") for path in sorted((out / "hme").rglob(".tmp-*"))]
    for path, why in found:
        yield Orphan(path.relative_to(out).as_posix(), _size(path), why)


def _size(path: Path) -> int:
    return sum(p.lstat().st_size for p in (path, *path.rglob("*")) if not p.is_dir())
