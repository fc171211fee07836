"""Map files into memory without keeping them open: a corpus has more files than a process may hold descriptors."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import weakref
from pathlib import Path

import numpy as np

from corpus.errors import MotionloomError


def map_file(path: Path, dtype: np.dtype, shape: tuple[int, int]) -> np.ndarray:
    """The beginning of a file as a read-only array; unmapped when the last view of it is gone.

    `np.memmap` would keep a descriptor per file (`mmap.mmap` duplicates it), and 1,024 of them is a usual limit.
    """
    length = shape[0] * shape[1] * dtype.itemsize
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # Memory beyond the end of a file can be mapped; touching it would kill the process.
        if os.fstat(descriptor).st_size < length:
            raise ValueError(f"{path} is shorter than {length} bytes.")
        address = _libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    finally:
        os.close(descriptor)
    if address == _FAILED:
        raise _failure(path, ctypes.get_errno())
    memory = (ctypes.c_ubyte * length).from_address(address)
    weakref.finalize(memory, _libc.munmap, address, length).atexit = False
    # The view is read-only for good: a plain array could be made writable, and writing would kill the process.
    return np.frombuffer(memoryview(memory).toreadonly(), dtype).reshape(shape)


def expect_random(array: np.ndarray) -> None:
    """Say that an array of `map_file` will be read a few rows here, a few there.

    Otherwise the system reads ahead at every touch, by 128 KiB or, on some machines, 8 MiB: for a window of 9 KiB.
    """
    # Of all that is mapped: a part would be a mapping of its own, and their number is limited.
    whole = array.base if isinstance(array.base, np.ndarray) else array
    if whole.nbytes:
        _libc.madvise(whole.ctypes.data, whole.nbytes, mmap.MADV_RANDOM)


def _failure(path: Path, number: int) -> Exception:
    if number == errno.ENOMEM:
        return MotionloomError(
            f"{path}: this process has mapped as many files as it may; raise the limit (sysctl vm.max_map_count)."
        )
    return OSError(number, os.strerror(number), str(path))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_FAILED = ctypes.c_void_p(-1).value
