"""Preloaded by a Dask worker: reading a file with the mark kills the worker, as a fault in a C library would."""

from __future__ import annotations

import dataclasses
import os
import signal

from corpus.sources import SOURCES, Source

MARK = b"deadly"


def poisoned(source: Source) -> Source:
    def load(root, clip, options):
        if MARK in (root / clip.path).read_bytes():
            os.kill(os.getpid(), signal.SIGKILL)
        return source.load(root, clip, options)

    return dataclasses.replace(source, load=load)


SOURCES["robot"] = poisoned(SOURCES["robot"])
