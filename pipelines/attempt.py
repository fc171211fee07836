"""What runs on a worker: one attempt at a task, by the command's own code, on one thread."""

from __future__ import annotations

import contextlib
import functools
import os
import traceback
from collections.abc import Callable

from corpus.errors import MotionloomError
from pipelines import guard

ONE_THREAD: dict[str, str] = dict.fromkeys(
    ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS"], "1"
)
"""A worker is one thread: more would fight for the cores that the other workers use."""


def attempt(function: Callable[[dict], dict], task: dict, digest: str | None) -> dict:
    """The outcome: "result", or what `failed` tells. Exceptions travel as text: not every one survives the journey."""
    try:
        if digest is not None:
            _prepare_worker(digest)
        return {"result": function(task)}
    except Exception as error:  # listed with its traceback by the command, never swallowed
        return failed(error)


def sent() -> Callable[[bytes], dict]:
    """`attempt` in the form that is sent: it takes its pickled arguments and needs nothing on the scheduler but Dask.

    A function within a function travels by value, so that the scheduler, which unpickles it, imports nothing of ours.
    """

    def unpack_and_attempt(payload: bytes) -> dict:
        import pickle

        try:
            from pipelines.attempt import attempt

            arguments = pickle.loads(payload)
        except (ImportError, AttributeError) as error:
            error = f"A worker lacks Motionloom, or has another version ({error}): install the same version on both."
            return {"error": error, "stop": True, "refused": True, "trace": ""}
        return attempt(*arguments)

    return unpack_and_attempt


def failed(error: Exception) -> dict:
    """An outcome: the "error" in a line, its "trace", whether a person has to mend something first ("stop"), and
    whether it is this worker that must not be used ("refused")."""
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    mendable = isinstance(error, MotionloomError)
    return {
        "error": f"{error}{notes}" if mendable else f"{type(error).__name__}: {error}{notes}",
        "stop": mendable,
        "refused": isinstance(error, guard.MixedPackages),
        "trace": "".join(traceback.format_exception(error)),
    }


@functools.cache
def _prepare_worker(digest: str) -> None:
    """Once per worker process: the command's own code, and one thread for linear algebra."""
    guard.check()
    if digest:
        guard.check_same_code(digest)
    os.environ.update(ONE_THREAD)
    with contextlib.suppress(ImportError):
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)
