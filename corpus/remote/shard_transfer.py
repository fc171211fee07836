"""A shard's way to object storage and back: objects first, `shard.json` last, which is the commit; checked on arrival."""

from __future__ import annotations

import contextlib
import errno
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from corpus.errors import CorruptShard, MotionloomError
from corpus.remote.bucket import Bucket, concurrently
from corpus.remote.scratch import scratch
from corpus.store import ShardWriter, fingerprint, read_about

log = logging.getLogger(__name__)

COMMIT = "shard.json"
"""A shard exists where this object does; it is the last one written."""
ROUNDS = 5
"""How often a writer begins again when others, with other bytes, write the same shard."""


@contextlib.contextmanager
def shard_writer(out: str, shard: str, recipe_hash: str) -> Iterator[ShardWriter]:
    """A `ShardWriter` for a corpus on object storage: `commit` writes to a local temporary folder and uploads that."""
    try:
        with (
            scratch(Path(tempfile.gettempdir()), "motionloom") as folder,
            _UploadingWriter(folder, shard, recipe_hash, bucket=Bucket(out)) as writer,
        ):
            yield writer
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MotionloomError(
                f"{tempfile.gettempdir()}: the disk is full; free some space, or set TMPDIR, and run the same command."
            ) from error
        raise


class _UploadingWriter(ShardWriter):
    def __init__(self, folder: Path, shard: str, recipe_hash: str, *, bucket: Bucket):
        super().__init__(folder, shard, recipe_hash)
        self.bucket = bucket

    def commit(self) -> None:
        super().commit()
        upload_shard(self.bucket, self.target)


def upload_shard(bucket: Bucket, folder: Path) -> None:
    """Let a whole local shard appear in the bucket; one that is whole there already is left alone.

    Writers of the same bytes help each other, whoever commits. Where writers of other bytes (another version of this
    software) have been at work, the one who sees a commit that its objects do not fit takes it back and begins again.
    """
    place = f"shards/{folder.name}"
    for _ in range(ROUNDS):
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != COMMIT)
        concurrently(lambda path: _upload_file(bucket, path, folder), files)
        if bucket.create(f"{place}/{COMMIT}", (folder / COMMIT).read_bytes()) or _is_whole(bucket, folder.name):
            return
        log.warning("%s/%s is damaged and is replaced", bucket.url, place)
        bucket.delete([f"{place}/{COMMIT}"])
    raise MotionloomError(f"{bucket.url}/{place}: another writer keeps writing other bytes; run one version at a time.")


def download_shard(bucket: Bucket, name: str, folder: Path) -> None:
    """Bring a shard's files into an empty local folder; what does not fit its checksum is fetched once more.

    Raises `CorruptShard` where there is no such shard, or its objects are not those that were written.
    """
    content = bucket.read(f"shards/{name}/{COMMIT}")
    if content is None:
        raise CorruptShard(f"{bucket.url}/shards/{name}: no such shard.")
    (folder / COMMIT).write_bytes(content)
    try:
        files = read_about(folder)["files"]
    except CorruptShard as error:
        raise CorruptShard(str(error).replace(str(folder), f"{bucket.url}/shards/{name}")) from None
    if strange := [file for file in files if not _lies_within(file)]:
        raise CorruptShard(f"{bucket.url}/shards/{name}/{COMMIT}: names {strange[0]!r}, which lies elsewhere.")
    wrong = set(files)
    for _ in range(2):
        concurrently(lambda file: _download_file(bucket, name, folder, file, files[file]), sorted(wrong))
        wrong = {file for file in wrong if not _arrived(folder / file, files[file])}
        if not wrong:
            return
        log.warning("%s/shards/%s: %s did not arrive as written", bucket.url, name, ", ".join(sorted(wrong)))
    raise CorruptShard(
        f"{bucket.url}/shards/{name}/{min(wrong)}: its bytes are not those that were written. "
        "Delete the shard and run the build again."
    )


def _upload_file(bucket: Bucket, path: Path, folder: Path) -> None:
    name = f"shards/{folder.name}/{path.relative_to(folder).as_posix()}"
    # What a writer that died has left may differ; once there is a commit, it stands.
    if not bucket.create(name, path.read_bytes()) and bucket.stamp(f"shards/{folder.name}/{COMMIT}") is None:
        bucket.replace(name, path)


def _is_whole(bucket: Bucket, name: str) -> bool:
    with scratch(Path(tempfile.gettempdir()), "motionloom-check") as folder:
        try:
            download_shard(bucket, name, folder)
        except CorruptShard:
            return False
    return True


def _download_file(bucket: Bucket, shard: str, folder: Path, file: str, written: dict[str, Any]) -> None:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    bucket.download(f"shards/{shard}/{file}", path, written["bytes"])


def _arrived(path: Path, written: dict[str, Any]) -> bool:
    return path.exists() and fingerprint(path) == written


def _lies_within(file: str) -> bool:
    path = PurePosixPath(file)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and file != COMMIT
