"""Work done ahead of time by a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items, up to `depth` of them made ahead of time by a thread; with 0, none.

    What `items` raises is raised here, after the items before it. The thread ends with this iterator, read to its end or not.
    """
    if depth < 1:
        yield from items
        return
    made: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    room, stop = threading.Semaphore(depth), threading.Event()

    def work() -> None:
        try:
            while room.acquire() and not stop.is_set():
                made.put(("item", next(items)))
        except StopIteration:
            made.put(("end", None))
        except BaseException as error:  # it belongs to whoever waits for the items
            made.put(("error", error))

    thread = threading.Thread(target=work, name="motionloom-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = made.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            room.release()
            yield value
    finally:
        stop.set()
        room.release()
        thread.join()
