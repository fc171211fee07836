"""All six packages must come from one home: their flat names could belong to another distribution too."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

from corpus.errors import MotionloomError

PACKAGES = ("corpus", "retarget", "hme", "trainer", "deploy", "pipelines")


class MixedPackages(MotionloomError):
    """One of our packages is shadowed by another distribution's, or two machines hold different code."""


def check() -> Path:
    """The folder that all six packages lie in; `MixedPackages` names those that come from elsewhere."""
    home = Path(__file__).resolve().parents[1]
    elsewhere = {name: place for name in PACKAGES if (place := _home(name)) != home}
    if elsewhere:
        found = ", ".join(f"{name!r} from {place or 'nowhere'}" for name, place in elsewhere.items())
        raise MixedPackages(
            f"Motionloom lies in {home}, but Python takes {found}: "
            "remove the other distribution, or run in an environment of its own."
        )
    return home


@functools.cache
def code_digest() -> str:
    """Hash of the source of all six packages: two machines that build one corpus must hold the same."""
    home = check()
    digest = hashlib.blake2b(digest_size=16)
    for package in PACKAGES:
        files = [path for path in (home / package).rglob("*") if path.suffix in (".py", ".xml")]
        for path in sorted(files):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(home).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def check_same_code(digest: str) -> None:
    """On a worker: its packages come from one home, and hold the code of the machine that asks."""
    if code_digest() != digest:
        raise MixedPackages(
            f"A worker in {check()} holds other code than the command: install the same version on both."
        )


def _home(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).resolve().parents[1]
