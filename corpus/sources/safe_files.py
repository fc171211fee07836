"""Reading npz, npy and pickle files of unknown origin: headers are believed as far as the bytes go, nothing runs."""

from __future__ import annotations

import ast
import io
import math
import os
import pickle
import re
import struct
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from corpus.errors import Rejected

MAX_BYTES = 1 << 29
"""An array that claims more is refused unread: 40 minutes of AMASS's widest table at 120 Hz take less."""

MAX_PICKLE_BYTES = 1 << 30
"""A pickle larger than this, packed or unpacked, is refused: a library of many motions lies in one."""

# What damaged files make `zipfile` and `numpy` raise, and damaged headers `ast` and `numpy.dtype`.
_BAD_FILE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
)
_BAD_HEADER = (
    struct.error,
    ValueError,
    KeyError,
    TypeError,
    SyntaxError,
    OverflowError,
    IndexError,
    AttributeError,
    MemoryError,
    RecursionError,
)


def npz_keys(path: Path) -> list[str]:
    """Names of the arrays in an npz."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except _BAD_FILE as error:
        raise Rejected("truncated", f"not a whole npz: {error}") from None


def read_npz(path: Path, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """The wanted arrays that the file has; others, pickled objects among them, are never touched."""
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            for name in wanted:
                if name in members:
                    arrays[name] = _read_member(archive, members[name], name)
    except _BAD_FILE as error:
        raise Rejected("truncated", f"not a whole npz: {error}") from None
    return arrays


def read_npy(path: Path) -> np.ndarray:
    """The array of an npy without objects."""
    try:
        with path.open("rb") as stream:
            return _read_array(stream, path.stat().st_size, path.name)
    except _BAD_FILE as error:
        raise Rejected("truncated", f"not a whole npy: {error}") from None


def read_npy_object(path: Path) -> Any:
    """What a pickled 0-d object npy holds, by the restricted unpickler."""
    try:
        with path.open("rb") as stream:
            shape, _, dtype = _header(stream, path.name)
            if not dtype.hasobject or shape != ():
                raise Rejected("wrong_shape", "expected one pickled dictionary", shape=str(shape))
            return _unpickle(stream)
    except OSError as error:
        raise Rejected("unreadable", str(error)) from None


def is_object_npy(path: Path) -> bool:
    """Does the npy hold pickled objects?"""
    try:
        with path.open("rb") as stream:
            return _header(stream, path.name)[2].hasobject
    except OSError as error:
        raise Rejected("unreadable", str(error)) from None


def read_pickle(path: Path) -> Any:
    """What a pickle (plain, or joblib's with arrays behind it) holds: containers, numbers, text and NumPy arrays only.

    Packed ones (zlib, gzip) are unpacked up to `MAX_PICKLE_BYTES`.
    """
    try:
        with path.open("rb") as stream:
            return _unpickle(stream)
    except OSError as error:
        raise Rejected("unreadable", str(error)) from None


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> np.ndarray:
    # NumPy writes no other kind, and LZMA's own header may claim gigabytes.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Rejected("unreadable", "packed in a way NumPy never writes", array=name, method=member.compress_type)
    with archive.open(member) as stream:
        return _read_array(stream, member.file_size, name)


def _read_array(stream: Any, size: int, name: str) -> np.ndarray:
    shape, fortran, dtype = _header(stream, name)
    if dtype.hasobject:
        raise Rejected("object_array", "holds pickled Python objects, which are not read", array=name)
    claimed = _claimed(shape, dtype)
    if claimed > size:
        raise Rejected("truncated", "the header claims more than the file holds", array=name, claimed_bytes=claimed)
    data = stream.read(claimed)
    if len(data) != claimed:
        raise Rejected("truncated", "ends too early", array=name, claimed_bytes=claimed, found_bytes=len(data))
    return _array(data, shape, dtype, fortran)


def _claimed(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes of an array of that shape, if they are not too many."""
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > MAX_BYTES:
        raise Rejected("absurd_size", "claims more than any clip holds", claimed_bytes=claimed, limit=MAX_BYTES)
    return claimed


def _array(data: bytes | bytearray, shape: tuple[int, ...], dtype: np.dtype, fortran: bool) -> np.ndarray:
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    if dtype.kind == "U" and array.size:
        points = np.frombuffer(data, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if points.size and points.max() > sys.maxunicode:  # Python could not turn it into a str
            raise ValueError("text that is no Unicode")
    return array


def _header(stream: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        length = 2 if version == (1, 0) else 4
        (count,) = struct.unpack("<H" if length == 2 else "<I", stream.read(length))
        if count > 65536:
            raise Rejected("absurd_size", "an npy header of that length is none", array=name, header_bytes=count)
        header = ast.literal_eval(stream.read(count).decode("latin1").strip())
        shape, dtype = tuple(header["shape"]), np.dtype(header["descr"])
        if not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"shape {shape}")
        return shape, bool(header["fortran_order"]), dtype
    except _BAD_HEADER as error:
        raise Rejected("truncated", f"{name}: no npy header: {error}"[:200]) from None


class _ArrayClass:
    """Stands where a pickle names `numpy.ndarray`, so that nobody can call the true one for gigabytes."""


def _rebuild_array(*_: Any) -> _SafeArray:
    """Stands in for numpy's own `_reconstruct`, which gives an empty array whatever its arguments are."""
    return _SafeArray()


class _SafeArray:
    """The place of an array whose pickled state is checked before it is believed."""

    value: Any = None
    """The array; what was a 0-d array of objects is the object itself, and a longer one a list."""

    def __setstate__(self, state: Any) -> None:
        _, shape, mark, fortran, data = state
        dtype = _known(mark)
        if dtype.hasobject:
            if not isinstance(data, list) or len(data) != math.prod(shape):
                raise Rejected("unsafe_pickle", "an array of objects that does not fit its shape")
            self.value = data if shape else data[0]
            return
        if not isinstance(data, bytes) or len(data) != _claimed(shape, dtype):
            raise Rejected("truncated", "an array whose bytes do not fit its shape", shape=str(shape)[:80])
        self.value = _array(data, shape, dtype, bool(fortran))


class _JoblibArray:
    """Marks the place of an array that joblib writes raw behind the pickle's opcode."""

    value: np.ndarray | None = None

    def read(self, state: Any, stream: Any) -> None:
        dtype, shape = _known(state["dtype"], objects=False), tuple(state["shape"])
        if state.get("numpy_array_alignment_bytes") is not None:
            stream.read(stream.read(1)[0])
        claimed = _claimed(shape, dtype)
        data = stream.read(claimed)
        if len(data) != claimed:
            raise Rejected("truncated", "ends too early", claimed_bytes=claimed, found_bytes=len(data))
        self.value = _array(data, shape, dtype, state["order"] == "F")


class _Dtype:
    """The place of a dtype, whose byte order a pickle tells only after others may have named it."""

    def __init__(self, text: Any, *_: Any):
        if not isinstance(text, str) or not re.fullmatch(r"[<>|=]?[biufcSU?]\d*|O8?", text):
            raise Rejected("unsafe_pickle", "no plain dtype", name=repr(text)[:80])
        self.value = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


def _known(mark: Any, *, objects: bool = True) -> np.dtype:
    """The dtype in its place; Rejected where something else stands there, or one of objects where none may."""
    if not isinstance(mark, _Dtype) or (mark.value.hasobject and not objects):
        raise Rejected("unsafe_pickle", "an array of objects, or without a plain dtype")
    return mark.value


def _scalar(mark: Any, data: Any) -> Any:
    if not isinstance(data, bytes):
        raise Rejected("unsafe_pickle", "a scalar of objects")
    return np.frombuffer(data, _known(mark, objects=False), 1)[0]


def _no_bytes() -> bytes:
    """Stands in for `bytes`, which old pickles call for an empty one; the true one makes any number of zeros."""
    return b""


def _latin_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise Rejected("unsafe_pickle", f"encoding {encoding!r}")
    return text.encode("latin1")


def _from_buffer(buffer: Any, mark: Any, shape: Any, order: Any, *_: Any) -> np.ndarray:
    if not isinstance(buffer, (bytes, bytearray)):
        raise Rejected("unsafe_pickle", "an array without bytes")
    return _array(buffer, shape, _known(mark, objects=False), order == "F")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin_bytes,
    ("numpy", "ndarray"): _ArrayClass,
    ("numpy", "dtype"): _Dtype,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _JoblibArray,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _rebuild_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]  # the pure-Python one: joblib's arrays need a hook
    """Knows the names in `_ALLOWED`, as our own harmless stand-ins, and no others."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]
    stack: list[Any]

    def __init__(self, stream: io.BytesIO):
        super().__init__(stream)
        self.stream = stream

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise Rejected("unsafe_pickle", "only arrays and plain containers are read", name=f"{module}.{name}"[:200])
        return _ALLOWED[module, name]

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _JoblibArray):
            target.read(state, self.stream)
        elif isinstance(target, (_SafeArray, _Dtype)):
            target.__setstate__(state)
        else:
            raise Rejected("unsafe_pickle", "a state for something that is no array")

    def load_bytearray8(self) -> None:
        # The original allocates whatever length is claimed.
        (length,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        if length > len(self.stream.getbuffer()):
            raise Rejected("truncated", "claims more bytes than the file has", claimed_bytes=length)
        self.stack.append(bytearray(self.read(length)))  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def _unpickle(stream: Any) -> Any:
    size = os.fstat(stream.fileno()).st_size
    if size > MAX_PICKLE_BYTES:
        raise Rejected("absurd_size", "no library of motions is as large", byte_count=size, limit=MAX_PICKLE_BYTES)
    try:
        return _plain(_Unpickler(io.BytesIO(_unpacked(stream.read()))).load(), {})
    except Rejected:
        raise
    except RecursionError:
        raise Rejected("unsafe_pickle", "nested too deeply, or holds itself") from None
    except Exception as error:  # a damaged pickle can raise anything, and nothing of it has run
        raise Rejected("truncated", f"not a whole pickle: {type(error).__name__}: {error}"[:200]) from None


def _unpacked(data: bytes) -> bytes:
    """The bytes of a pickle that joblib may have packed by zlib or gzip."""
    if data[:1] == b"\x78" or data[:2] == b"\x1f\x8b":
        unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        data = unpack.decompress(data, MAX_PICKLE_BYTES + 1)
        if len(data) > MAX_PICKLE_BYTES:
            raise Rejected("absurd_size", "unpacks to more than any library of motions", limit=MAX_PICKLE_BYTES)
        if not unpack.eof:
            raise Rejected("truncated", "a packed pickle that ends too early")
    return data


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """The value with our stand-ins replaced by what they hold.

    `done` keeps what has been seen, so that one list named a thousand times is looked through once.
    """
    if isinstance(value, (_SafeArray, _JoblibArray)):
        return _plain(value.value, done)
    if value is None or isinstance(value, _PLAIN):
        return value
    if not isinstance(value, (dict, list, tuple)):
        raise Rejected("unsafe_pickle", "only arrays and plain containers are read", name=type(value).__name__)
    if id(value) not in done:
        if isinstance(value, dict):
            if not all(isinstance(key, (str, bytes, int, float)) for key in value):
                raise Rejected("unsafe_pickle", "only text and numbers name things")
            done[id(value)] = {key: _plain(item, done) for key, item in value.items()}
        else:
            done[id(value)] = type(value)(_plain(item, done) for item in value)
    return done[id(value)]


_PLAIN = (bool, int, float, str, bytes, np.generic, np.ndarray)
