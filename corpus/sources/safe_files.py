"""Reading npz, npy and pickle files of unknown origin: headers are believed only as far as the bytes go, nothing runs."""

from __future__ import annotations

import ast
import io
import pickle
import re
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from corpus.errors import Rejected

MAX_BYTES = 4 << 30
"""An array that claims more is refused unread."""

_BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    OSError,
    struct.error,
)


def npz_keys(path: Path) -> list[str]:
    """Names of the arrays in an npz."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (*_BAD_ZIP, ValueError, UnicodeDecodeError) as error:
        raise Rejected("truncated", f"not a whole npz: {error}") from None


def read_npz(path: Path, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """The wanted arrays that the file has; others, pickled objects among them, are never touched."""
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            for name in wanted:
                if name in members:
                    with archive.open(members[name]) as stream:
                        arrays[name] = _read_array(stream, members[name].file_size, name)
    except (*_BAD_ZIP, ValueError, UnicodeDecodeError) as error:
        raise Rejected("truncated", f"not a whole npz: {error}") from None
    return arrays


def read_npy(path: Path) -> np.ndarray:
    """The array of an npy without objects."""
    try:
        with path.open("rb") as stream:
            return _read_array(stream, path.stat().st_size, path.name)
    except (OSError, EOFError, ValueError, UnicodeDecodeError) as error:
        raise Rejected("truncated", f"not a whole npy: {error}") from None


def read_npy_object(path: Path) -> Any:
    """What a pickled 0-d object npy holds, by the restricted unpickler."""
    try:
        with path.open("rb") as stream:
            shape, _, dtype = _header(stream, path.name)
            if not dtype.hasobject or shape != ():
                raise Rejected("wrong_shape", "expected one pickled dictionary", shape=str(shape))
            return _unpickle(stream)
    except (OSError, EOFError, ValueError) as error:
        raise Rejected("truncated", f"not a whole npy: {error}") from None


def is_object_npy(path: Path) -> bool:
    """Does the npy hold pickled objects?"""
    try:
        with path.open("rb") as stream:
            return _header(stream, path.name)[2].hasobject
    except (OSError, EOFError, ValueError) as error:
        raise Rejected("truncated", f"not a whole npy: {error}") from None


def read_pickle(path: Path) -> Any:
    """What a pickle (plain, or joblib's with arrays behind it) holds: containers, numbers, text and NumPy arrays only."""
    try:
        with path.open("rb") as stream:
            return _unpickle(stream)
    except (OSError, EOFError) as error:
        raise Rejected("truncated", f"not a whole pickle: {error}") from None


def _read_array(stream: Any, size: int, name: str) -> np.ndarray:
    shape, fortran, dtype = _header(stream, name)
    if dtype.hasobject:
        raise Rejected("object_array", "holds pickled Python objects, which are not read", array=name)
    claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if claimed > MAX_BYTES:
        raise Rejected("absurd_size", "the header claims more than any clip holds", array=name, claimed_bytes=claimed)
    if claimed > size:
        raise Rejected("truncated", "the header claims more than the file holds", array=name, claimed_bytes=claimed)
    data = stream.read(claimed)
    if len(data) != claimed:
        raise Rejected("truncated", array=name, claimed_bytes=claimed, found_bytes=len(data))
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _header(stream: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        length = 2 if version == (1, 0) else 4
        (count,) = struct.unpack("<H" if length == 2 else "<I", stream.read(length))
        if count > 65536:
            raise Rejected("absurd_size", "an npy header of that length is none", array=name, header_bytes=count)
        header = ast.literal_eval(stream.read(count).decode("latin1").strip())
        shape, dtype = header["shape"], np.dtype(header["descr"])
        if not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"shape {shape}")
        return tuple(shape), bool(header["fortran_order"]), dtype
    except (ValueError, SyntaxError, KeyError, TypeError, struct.error, MemoryError, RecursionError) as error:
        raise Rejected("truncated", f"{name}: no npy header: {error}") from None


def _rebuild_array(*_: Any) -> np.ndarray:
    """Stands in for numpy's own `_reconstruct`, which gives an empty array whatever its arguments are."""
    return _SafeArray((0,))


class _SafeArray(np.ndarray):
    """An array whose pickled state is checked before it is believed."""

    items: list[Any] | None = None
    """What an array of objects holds; such arrays turn into lists."""

    def __setstate__(self, state: Any) -> None:
        shape, dtype, data = state[1], state[2], state[4]
        if dtype.hasobject and isinstance(data, list) and len(data) == int(np.prod(shape, dtype=object)):
            self.items = data if shape else data[0]
            return
        if (
            dtype.hasobject
            or not isinstance(data, bytes)
            or len(data) != int(np.prod(shape, dtype=object)) * dtype.itemsize
        ):
            raise Rejected("unsafe_pickle", "an array of objects, or one whose bytes do not fit its shape")
        super().__setstate__(state)


class _JoblibArray:
    """Marks the place of an array that joblib writes raw behind the pickle's opcode."""

    shape: tuple[int, ...]
    order: str
    dtype: np.dtype
    numpy_array_alignment_bytes: int | None = None

    def read(self, stream: Any) -> np.ndarray:
        if self.numpy_array_alignment_bytes is not None:
            padding = stream.read(1)
            stream.read(padding[0] if padding else 0)
        if self.dtype.hasobject:
            raise Rejected("unsafe_pickle", "an array of objects")
        size = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        if size > MAX_BYTES:
            raise Rejected("absurd_size", claimed_bytes=size)
        data = stream.read(size)
        if len(data) != size:
            raise Rejected("truncated", claimed_bytes=size, found_bytes=len(data))
        return np.frombuffer(data, self.dtype).reshape(self.shape, order="F" if self.order == "F" else "C")


def _scalar(dtype: np.dtype, data: bytes) -> Any:
    if dtype.hasobject or not isinstance(data, bytes):
        raise Rejected("unsafe_pickle", "a scalar of objects")
    return np.frombuffer(data, dtype, 1)[0]


def _dtype(text: Any, *_: Any) -> np.dtype:
    if not isinstance(text, str) or not re.fullmatch(r"[<>|=]?[biufcSU?]\d*|O8?", text):
        raise Rejected("unsafe_pickle", f"dtype {text!r}")
    return np.dtype(text)


def _latin_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise Rejected("unsafe_pickle", f"encoding {encoding!r}")
    return text.encode("latin1")


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> np.ndarray:
    if not isinstance(buffer, (bytes, bytearray)) or not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise Rejected("unsafe_pickle", "an array of objects")
    return np.frombuffer(buffer, dtype).reshape(shape, order="F" if order == "F" else "C")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin_bytes,
    ("numpy", "ndarray"): _SafeArray,
    ("numpy", "dtype"): _dtype,
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _JoblibArray,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _rebuild_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]  # the pure-Python one: joblib's arrays need a hook
    """Knows the names in `_ALLOWED`, as our own harmless stand-ins, and no others."""

    dispatch = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, stream: Any):
        super().__init__(stream)
        self.stream = stream

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise Rejected("unsafe_pickle", "only arrays and plain containers are read", name=f"{module}.{name}")
        return _ALLOWED[module, name]

    def load_build(self) -> None:
        state, target = self.stack[-1], self.stack[-2]  # type: ignore[attr-defined]
        if isinstance(target, np.dtype):
            self.stack.pop()  # type: ignore[attr-defined]
            _apply_byte_order(self.stack, state)  # type: ignore[attr-defined]
            return
        if isinstance(target, _JoblibArray):
            self.stack.pop()  # type: ignore[attr-defined]
            self.stack[-1] = _joblib_array(state).read(self.stream)  # type: ignore[attr-defined]
            return
        if not isinstance(target, _SafeArray):
            raise Rejected("unsafe_pickle", "a state for something that is no array")
        pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]


def _apply_byte_order(stack: list[Any], state: Any) -> None:
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "="
    if order in ("<", ">"):
        stack[-1] = stack[-1].newbyteorder(order)


def _joblib_array(state: Any) -> _JoblibArray:
    array = _JoblibArray()
    if not isinstance(state, dict) or not isinstance(state.get("dtype"), np.dtype):
        raise Rejected("unsafe_pickle", "an array without a plain dtype")
    array.shape, array.order, array.dtype = tuple(state["shape"]), str(state["order"]), state["dtype"]
    array.numpy_array_alignment_bytes = state.get("numpy_array_alignment_bytes")
    return array


def _unpickle(stream: Any) -> Any:
    data = io.BytesIO(stream.read())
    try:
        return _plain(_Unpickler(data).load())
    except Rejected:
        raise
    except RecursionError:
        raise Rejected("unsafe_pickle", "nested too deeply") from None
    except Exception as error:  # a damaged pickle can raise anything, and nothing of it has run
        raise Rejected("truncated", f"not a whole pickle: {type(error).__name__}: {error}") from None


def _plain(value: Any) -> Any:
    """Arrays as NumPy's own class again, arrays of objects as lists (a 0-d one as what it holds)."""
    if isinstance(value, _SafeArray) and value.items is not None:
        return _plain(value.items)
    if isinstance(value, np.ndarray):
        return np.asarray(value).view(np.ndarray)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value
