"""Embedders behind one call, however they were made: motions in, vectors out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from corpus.durable import load_arrays
from corpus.errors import MotionloomError
from corpus.motion import RobotMotion
from hme.embedding import Embedding
from hme.features import Features


class Embedder(Protocol):
    """Fitted or trained: the same motion always gets the same vector by it."""

    @property
    def hme_id(self) -> str:
        """Hash of config, weights and statistics: vectors of two ids never mix."""
        ...

    def embed(self, motions: Sequence[RobotMotion]) -> Embedding:
        """All motions, none left out."""
        ...

    def embed_features(self, given: Features) -> Embedding: ...

    def save(self, path: Path) -> None:
        """One npz, whose array `kind` is a key of `KINDS`."""
        ...


def load_embedder(path: Path) -> Embedder:
    """Whatever kind it is of; raises `MotionloomError` where the file holds no embedder."""
    try:
        kind = str(load_arrays(path)["kind"])
    except (OSError, ValueError, KeyError) as error:
        raise MotionloomError(f"{path} holds no embedder ({error!r}).") from None
    if kind not in KINDS:
        raise MotionloomError(f"{path} holds an embedder of kind {kind!r}. Known: {', '.join(KINDS)}.")
    return KINDS[kind](path)


def _spectrum(path: Path) -> Embedder:
    from hme.spectrum import Spectrum

    return Spectrum.load(path)


def _autoencoder(path: Path) -> Embedder:
    from hme.autoencoder import Autoencoder

    return Autoencoder.load(path)


KINDS: dict[str, Callable[[Path], Embedder]] = {"spectrum": _spectrum, "autoencoder": _autoencoder}
"""Who reads which kind; those that need torch import it when they are asked."""
