"""Windows of motion from rows that lie anywhere in memory: what a kernel is told of them, and the one that copies rows.

One source, CPU and CUDA. Frame i of a window shows the time `start + i · speed` of its segment, counted in rows; times beyond
the segment show its edge. Rows and results are given by address, so that mapped files, NumPy and torch are all alike, and rows
are moved by loops over plain memory, which compilers turn into vector instructions.
"""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAssignmentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false

from typing import Any

import warp as wp

import corpus.warp_tools  # noqa: F401  Warp's settings, before its first use
from corpus.augment import SNAP

SHOW, RATE = 1, 2
"""What a launch of `weave` does: the frames themselves; their velocities, which need all frames. Both in one on a CPU."""


@wp.struct
class Window:
    """Where a window comes from and what is done to it."""

    rows: wp.uint64
    """Address of a row of `qpos`, which is row 0 in what follows."""
    touches: wp.uint64
    """Address of the same row of `contact`."""
    first: wp.int32
    last: wp.int32
    """The segment's rows. Those that the window needs must be there, the others need not."""
    start: wp.int32
    """The row that frame 0 shows."""
    mirrored: wp.int32
    speed: wp.float64
    """Rows per frame."""
    yaw: wp.float32
    """Turn about the vertical through the root of frame 0 [rad]."""


@wp.struct
class Task:
    """What a launch makes of its windows, and the addresses where it goes; 0 for what is not asked for."""

    length: wp.int32
    """Frames of every window, history and future included."""
    history: wp.int32
    """Frames before frame 0."""
    fps: wp.float32
    steps: wp.int32
    """SHOW the frames, find their RATEs, or both."""
    frames_per_thread: wp.int32
    qpos: wp.uint64
    edges: wp.uint64
    """Takes the two frames next to each window, where velocities are asked for."""
    velocity: wp.uint64
    contact: wp.uint64
    valid: wp.uint64


@wp.struct
class Moment:
    """A time among the rows: `row` and, by `share`, the one after it."""

    row: wp.int32
    share: wp.float32
    inside: wp.bool
    """Does the segment reach there?"""


@wp.func
def moment_of(window: Window, frame: int) -> Moment:
    time = wp.float64(frame) * window.speed
    whole = wp.floor(time + wp.float64(SNAP))
    at = Moment()
    at.row = window.start + int(whole)
    at.share = float(time - whole)
    if at.share < SNAP:
        at.share = 0.0
    at.inside = at.row >= window.first and (at.row < window.last or (at.row == window.last and at.share == 0.0))
    if not at.inside:
        at.row = wp.clamp(at.row, window.first, window.last)
        at.share = 0.0
    return at


@wp.func_native("return *(const wp::float32*)(address + 4 * place);")
def number_at(address: wp.uint64, place: int) -> float: ...


@wp.func_native("*(wp::float32*)(address + 4 * place) = value;")
def put(address: wp.uint64, place: int, value: float): ...


@wp.func_native(
    "typedef const unsigned char* Bytes; Bytes from = (Bytes)(source + 4 * row);"
    "for (int k = 0; k < 4; ++k) ((unsigned char*)(address + 4 * place))[k] = from[mirrored ? k ^ 2 : k];"
)
def put_touches(address: wp.uint64, place: int, source: wp.uint64, row: int, mirrored: int):
    """Left heel, left toe, right heel, right toe; mirrored, left and right change places."""


@wp.func_native("*(bool*)(address + place) = value;")
def put_flag(address: wp.uint64, place: int, value: wp.bool): ...


@wp.func_native("memcpy((void*)to, (const void*)source, (size_t)count);")
def copy_bytes(to: wp.uint64, source: wp.uint64, count: wp.int64): ...


@wp.func
def row_at(address: wp.uint64, row: int, row_bytes: int) -> wp.uint64:
    return address + wp.uint64(wp.int64(row) * wp.int64(row_bytes))


@wp.func
def quaternion_of(row: wp.uint64) -> wp.vec4:
    return wp.vec4(number_at(row, 3), number_at(row, 4), number_at(row, 5), number_at(row, 6))


def window_array(address: int, count: int, device: Any = "cpu") -> wp.array:
    """`Window`s that lie in somebody's memory."""
    return wp.array(ptr=address, shape=(count,), dtype=Window, device=device)


@wp.kernel(module="unique")
def copy(
    windows: wp.array(dtype=Window), contacts: int, row_bytes: int, length: int, history: int, frames: wp.uint64,
):  # fmt: skip
    """The rows as they are, `history` before `start` and so on, `length` in all; a CPU's business. Speed does not count."""
    number = wp.tid()
    window = windows[number]
    rows = window.rows
    if contacts == 1:
        rows = window.touches
    to = row_at(frames, number * length, row_bytes)
    begin = window.start - history
    if begin >= window.first and begin + length - 1 <= window.last:
        copy_bytes(to, row_at(rows, begin, row_bytes), wp.int64(length) * wp.int64(row_bytes))
        return
    for j in range(length):
        row = wp.clamp(begin + j, window.first, window.last)
        copy_bytes(row_at(to, j, row_bytes), row_at(rows, row, row_bytes), wp.int64(row_bytes))
