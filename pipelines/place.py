"""Where a corpus is built: in a folder, or on object storage by way of a local mirror. A build speaks to both alike."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corpus.durable import replace_file
from corpus.errors import CorruptShard, MotionloomError, RecipeMismatch
from corpus.g1 import G1
from corpus.remote.bucket import is_url
from corpus.remote.mirror import Mirror
from corpus.remote.shard_transfer import shard_writer
from corpus.store import Shard, ShardWriter
from pipelines import plan
from pipelines.quarantine import FOLDER as QUARANTINE
from pipelines.quarantine import set_aside, set_aside_torn
from pipelines.recipe import FORMAT, Recipe, differences

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folder:
    """A corpus in a folder: what is written there is published."""

    folder: Path

    rows_only = False

    @property
    def place(self) -> str:
        """What people and workers call it."""
        return str(self.folder)

    def top(self) -> set[str]:
        """Names at the top of the corpus."""
        return {entry.name for entry in self.folder.iterdir()} if self.folder.is_dir() else set()

    def pull(self) -> None:
        """Bring over what others have published since."""

    def set_aside_torn(self) -> None:
        """Take away what a power cut can leave of a shard or a plan."""
        set_aside_torn(self.folder)

    def set_aside(self, shard: str, why: str) -> None:
        """Take a shard away that must not be here."""
        set_aside(self.folder, self.folder / "shards" / shard, why)

    def publish_about(self) -> None:
        """Let others see corpus.json."""

    def publish_plan(self) -> None:
        """Let others see the plan."""

    def publish_catalog(self) -> None:
        """Let others see the catalog."""


def open_place(out: Path | str, cache: Path | None = None) -> Folder | Mirror:
    """`cache` is where mirrors of what lies on object storage are kept."""
    return Mirror.open(str(out), cache, "build") if is_url(out) else Folder(Path(out).resolve())


@contextlib.contextmanager
def writer_of(out: str, shard: str, recipe_hash: str) -> Iterator[ShardWriter]:
    """Writes one shard of a corpus in a folder or on object storage."""
    if is_url(out):
        with shard_writer(out, shard, recipe_hash) as writer:
            yield writer
    else:
        with ShardWriter(Path(out) / "shards", shard, recipe_hash) as writer:
            yield writer


OWN_NAMES = {"corpus.json", "plans", "shards", "catalog", "hme", "runs", "bundle", "report", QUARANTINE, ".lock"}
"""What may lie at the top of a corpus."""


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Only one build at a time in a corpus; the lock goes with the process, however it ends."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise MotionloomError(f"{out} cannot be written: {error.strerror}.") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode() or "unknown"
            raise MotionloomError(f"{out} is being built by another process (pid {owner}): wait for it.") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def check_places(sources: dict[str, Path], place: Folder | Mirror) -> None:
    """A corpus lies outside its sources, and in a folder of its own."""
    out = place.folder
    for name, root in sources.items():
        if out.is_relative_to(root):
            raise MotionloomError(f"The corpus {out} lies inside the source {name} ({root}): put it elsewhere.")
    if out.exists() and not out.is_dir():
        raise MotionloomError(f"{out} is a file, not a folder.")
    if "corpus.json" not in (there := place.top()):
        strange = sorted(name for name in there if name not in OWN_NAMES and not name.startswith(".tmp-"))
        if strange:
            raise MotionloomError(f"{place.place} holds other things ({strange[0]!r}): name an empty or new folder.")


def open_corpus(out: Path, recipe: Recipe) -> None:
    """Write what the corpus is, or check that it is what this recipe makes."""
    path = out / "corpus.json"
    if not path.exists():
        _describe(path, recipe)
        return
    try:
        about = json.loads(path.read_text())
        there, stored_hash = json.dumps(about["recipe"]), about["recipe_hash"]
    except (ValueError, KeyError, TypeError) as error:
        if not _made_by(out, recipe):
            raise MotionloomError(
                f"{path} is damaged ({error!r}) and its shards were made by another recipe than this one: build with theirs."
            ) from None
        set_aside(out, path, f"it is damaged ({error!r})")
        _describe(path, recipe)
        return
    if stored_hash != recipe.hash:
        raise RecipeMismatch(f"{out} was made by another recipe ({differences(there, recipe)}): name another folder.")


def _describe(path: Path, recipe: Recipe) -> None:
    about = {
        "format": FORMAT,
        "recipe": json.loads(recipe.to_json()),
        "recipe_hash": recipe.hash,
        "robot": G1.name,
        "joint_names": list(G1.joint_names),
        "fps": recipe.fps,
    }
    replace_file(path, lambda temporary: temporary.write_text(json.dumps(about, indent=1, sort_keys=True) + "\n"))


def _made_by(out: Path, recipe: Recipe) -> bool:
    """Were all shards made by this recipe? What is damaged among them does not count."""
    hashes = set()
    for shard in plan.finished_shards(out):
        with contextlib.suppress(CorruptShard):
            hashes.add(Shard.open(out / "shards" / shard).recipe)
    return hashes <= {recipe.hash}


def leftovers(out: Path) -> list[Path]:
    """Half-made things of runs that were killed."""
    return [path for name in (".", "plans", "shards", "catalog") for path in sorted((out / name).glob(".tmp-*"))]


def remove_leftovers(out: Path) -> None:
    """The caller holds the lock: no build is making these any more, though a worker of one may be."""
    for path in leftovers(out):
        # Once renamed, what that worker writes cannot become a shard half deleted.
        gone = path.with_name(f".tmp-gone-{uuid.uuid4().hex}")
        with contextlib.suppress(FileNotFoundError):
            path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True) if gone.is_dir() else gone.unlink(missing_ok=True)


def check_space(out: Path, frames: int, *, least: int = 64 << 20) -> None:
    free, likely = shutil.disk_usage(out).free, frames * 150
    if free < least:
        raise MotionloomError(f"{out}: only {free >> 20} MiB of disk are free; a build needs at least {least >> 20}.")
    if free < likely:
        log.warning("%d MiB of disk are free and the corpus may take %d", free >> 20, likely >> 20)
