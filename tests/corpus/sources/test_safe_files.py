"""Files of unknown origin: good ones read as NumPy, pickle and joblib read them, bad ones are refused, and nothing runs."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import re
import resource
import struct
import tracemalloc
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import Rejected
from corpus.sources import safe_files
from corpus.sources.safe_files import is_object_npy, npz_keys, read_npy, read_npy_object, read_npz, read_pickle

joblib = pytest.importorskip("joblib")

ARRAYS = {
    "floats": np.linspace(0, 1, 12).reshape(3, 4),
    "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_end": np.arange(3, dtype=">f4"),
    "none": np.zeros((0, 3), np.float32),
    "number": np.array(30.0),
    "word": np.array("female"),
    "bytes": np.array(b"male"),
    "words": np.array(["a", "bc"]),
    "yes": np.array([True, False]),
}
MOTION = {**ARRAYS, "fps": 30, "scalar": np.float32(2.5), "list": [1, "two", None, (3, 4)], "deep": {"a": {"b": [1.5]}}}


def same(got: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return list(got) == list(expected) and all(same(got[key], expected[key]) for key in expected)
    if isinstance(expected, (list, tuple)):
        return type(got) is type(expected) and all(map(same, got, expected)) and len(got) == len(expected)
    kind = type(got) if isinstance(got, np.ndarray) else np.ndarray
    return kind is np.ndarray and np.array_equal(got, expected) and np.asarray(got).dtype == np.asarray(expected).dtype


def reason(read: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(Rejected) as caught:
        read(*args)
    return caught.value.reason


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def npy_header(shape: Any, descr: Any = "<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def raw_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin1")


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


# --- good files


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_an_npz_reads_as_numpy_reads_it(tmp_path, write):
    write(tmp_path / "a.npz", **ARRAYS)
    assert set(npz_keys(tmp_path / "a.npz")) == set(ARRAYS)
    assert same(read_npz(tmp_path / "a.npz", [*ARRAYS, "absent"]), ARRAYS)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_an_npy_reads_as_numpy_reads_it(tmp_path, name, version):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, ARRAYS[name], version)
    assert not is_object_npy(tmp_path / "a.npy")
    assert same(read_npy(tmp_path / "a.npy"), ARRAYS[name])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_arrays_reads_as_pickle_reads_it(tmp_path, protocol):
    path = saved(tmp_path / "a.pkl", pickle.dumps(OrderedDict(MOTION), protocol))
    assert same(read_pickle(path), MOTION)


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("gzip", 3)])
def test_a_joblib_file_reads_as_joblib_reads_it(tmp_path, compress):
    library = {"walk": MOTION, "run": {**MOTION, "fps": 50}}
    joblib.dump(library, tmp_path / "a.pkl", compress=compress)
    assert same(read_pickle(tmp_path / "a.pkl"), library)


def test_a_pickled_dictionary_in_an_npy_reads_as_numpy_reads_it(tmp_path):
    np.save(tmp_path / "a.npy", np.array(MOTION, dtype=object), allow_pickle=True)
    assert is_object_npy(tmp_path / "a.npy")
    assert same(read_npy_object(tmp_path / "a.npy"), MOTION)


def test_one_array_named_twice_is_one_array(tmp_path):
    array = np.arange(3.0)
    got = read_pickle(saved(tmp_path / "a.pkl", pickle.dumps({"a": array, "b": array})))
    assert got["a"] is got["b"]


def test_pickled_neighbours_in_an_npz_are_never_touched(tmp_path):
    np.savez(tmp_path / "a.npz", good=np.arange(3), bad=np.array({"a": 1}, dtype=object))
    assert list(read_npz(tmp_path / "a.npz", ["good"])) == ["good"]
    assert reason(read_npz, tmp_path / "a.npz", ["good", "bad"]) == "object_array"


@pytest.mark.data
def test_real_pickles_read_as_joblib_reads_them(shared):
    paths = [*(shared / "g1_formats/asap").glob("*.pkl"), *(shared / "g1_formats/pbhc").glob("*.pkl")]
    assert len(paths) == 5
    for path in paths:
        assert same(read_pickle(path), joblib.load(path))


# --- headers that claim too much


@pytest.fixture
def small_memory():
    """Half a gigabyte more than now, so that believing a claim fails."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + (1 << 29), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("shape", [(10**7, 165), (10**30, 3), (2**31, 2**31, 4)])
def test_ten_gigabytes_are_claimed_and_not_believed(tmp_path, small_memory, shape):
    content = npy_header(shape) + bytes(1000)
    assert reason(read_npy, saved(tmp_path / "a.npy", content)) == "absurd_size"
    assert reason(read_npz, zipped(tmp_path / "a.npz", {"poses.npy": content}), ["poses"]) == "absurd_size"


def test_a_zip_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path, small_memory):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("poses.npy", "w") as member:
        member.write(npy_header((1 << 27,)))
        for _ in range(40):  # more than the limit
            member.write(bytes(1 << 24))
    assert path.stat().st_size < 2e6
    assert reason(read_npz, path, ["poses"]) == "absurd_size"


def test_more_frames_than_bytes_are_refused(tmp_path):
    content = npy_header((1000, 3)) + bytes(999 * 24)
    assert reason(read_npy, saved(tmp_path / "a.npy", content)) == "truncated"
    assert reason(read_npz, zipped(tmp_path / "a.npz", {"poses.npy": content}), ["poses"]) == "truncated"


def test_pickled_claims_are_not_believed(tmp_path, small_memory):
    array = pickle.dumps(np.zeros(4), 2)
    longer = array.replace(b"K\x04\x85", b"\x8a\x06" + (10**10).to_bytes(6, "little") + b"\x85", 1)
    assert longer != array
    assert reason(read_pickle, saved(tmp_path / "a.pkl", longer)) in ("truncated", "absurd_size")
    for opcode in (pickle.BINBYTES8, pickle.BYTEARRAY8, pickle.BINUNICODE8):
        claim = b"\x80\x05" + opcode + struct.pack("<Q", 10**11) + b"a."
        assert reason(read_pickle, saved(tmp_path / "a.pkl", claim)) == "truncated"


def test_bytes_that_are_not_there_take_no_room(tmp_path):
    path = saved(tmp_path / "a.pkl", b"\x80\x05" + pickle.BYTEARRAY8 + struct.pack("<Q", 10**8) + b"a.")
    tracemalloc.start()
    assert reason(read_pickle, path) == "truncated"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**7


def test_a_packed_pickle_that_unpacks_to_gigabytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_files, "MAX_PICKLE_BYTES", 1 << 20)
    bomb = zlib.compress(pickle.dumps(bytes(1 << 21)))
    assert reason(read_pickle, saved(tmp_path / "a.pkl", bomb)) == "absurd_size"
    assert reason(read_pickle, saved(tmp_path / "a.pkl", gzip.compress(pickle.dumps(1))[:-9])) == "truncated"


def test_the_true_ndarray_cannot_be_called(tmp_path):
    """It would give memory that nobody has written to."""
    make = b"\x80\x02cnumpy\nndarray\n(K\x09\x85tR."
    assert pickle.loads(make).shape == (9,)
    assert reason(read_pickle, saved(tmp_path / "a.pkl", make)) in ("truncated", "unsafe_pickle")


def test_a_list_of_lists_of_lists_is_looked_through_once(tmp_path):
    laughs: list = ["ha"]
    for _ in range(200):
        laughs = [laughs] * 10
    assert read_pickle(saved(tmp_path / "a.pkl", pickle.dumps({"a": laughs})))["a"]


def test_a_list_that_holds_itself_is_refused(tmp_path):
    endless: list = []
    endless.append(endless)
    assert reason(read_pickle, saved(tmp_path / "a.pkl", pickle.dumps(endless))) == "unsafe_pickle"


def test_nesting_without_end_is_refused(tmp_path):
    deep = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    assert reason(read_pickle, saved(tmp_path / "a.pkl", deep)) == "unsafe_pickle"


# --- files that are none


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, share):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    np.save(tmp_path / "a.npy", np.zeros((50, 3)))
    joblib.dump(MOTION, tmp_path / "a.pkl")
    for read, name in ((read_npy, "a.npy"), (read_pickle, "a.pkl"), (npz_keys, "a.npz")):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        assert reason(read, path) == "truncated"


@pytest.mark.parametrize("text", [
    "", "{", "[1, 2]", "5", "{'descr': '<f8'}", "(" * 5000, "-" * 60000 + "1",
    "{'descr': '<f8', 'fortran_order': False, 'shape': 5}", "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1.5,)}", "{'descr': 'cat', 'fortran_order': False, 'shape': (1,)}",
    "{'descr': [('a', 5)], 'fortran_order': False, 'shape': (1,)}", "{'descr': '<f9', 'fortran_order': False, 'shape': (1,)}",
    "__import__('os').system('touch victim')",
])  # fmt: skip
def test_a_header_that_is_none_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    assert reason(read_npy, saved(tmp_path / "a.npy", raw_header(text) + bytes(100))) == "truncated"
    assert not (tmp_path / "victim").exists()


def test_text_that_is_no_unicode_is_refused(tmp_path):
    content = npy_header((), "<U1") + struct.pack("<I", 0x7FFFFFFF)
    assert reason(read_npy, saved(tmp_path / "a.npy", content)) == "truncated"


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_members_packed_as_numpy_never_does_are_refused(tmp_path, method):
    path = zipped(tmp_path / "a.npz", {"poses.npy": npy_header((1,)) + bytes(8)}, method)
    assert reason(read_npz, path, ["poses"]) == "unreadable"


def test_a_damaged_member_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", poses=np.ones((100, 3)))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[1000] ^= 1
    assert reason(read_npz, saved(tmp_path / "a.npz", bytes(content)), ["poses"]) == "truncated"


# --- pickles that would run code


class Payload:
    """Would make a file if it were unpickled."""

    def __init__(self, function: Any, *args: Any):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def attacks(victim: Path) -> dict[str, bytes]:
    text = str(victim)
    plain = Payload(os.mkdir, text)
    by_hand = f"(V{text}\nios\nmkdir\n.".encode()
    state = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85c_codecs\nencode\nX\x01\x00\x00\x00bX\x06\x00\x00\x00latin1\x86R\x87R"
    return {
        **{f"reduce {p}": pickle.dumps({"a": plain, "fps": 30}, p) for p in range(pickle.HIGHEST_PROTOCOL + 1)},
        "eval": pickle.dumps(Payload(eval, f"__import__('os').mkdir({text!r})")),
        "in an array": pickle.dumps(np.array([plain], dtype=object)),
        "in a key": pickle.dumps({Payload(os.mkdir, text): 1}),
        "in an array's state": state + pickle.dumps(plain, 2)[2:-1] + b"b.",
        "by the INST opcode": by_hand,
        "through getattr": b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        "by a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x13ndarray.__reduce__\x93.",
        "numpy's own loader": b"\x80\x04\x8c\x05numpy\x8c\x04load\x93\x8c\x01a\x85R.",
        "an extension": b"\x80\x02\x82\x01.",
        "a persistent id": b"Pmkdir\n.",
        "a state for a class": b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb.",
    }


@pytest.mark.parametrize("attack", attacks(Path("victim")))
def test_a_pickle_that_would_run_code_does_not_run(tmp_path, attack):
    victim = tmp_path / "victim"
    content = attacks(victim)[attack]
    assert reason(read_pickle, saved(tmp_path / "a.pkl", content)) in ("unsafe_pickle", "truncated")
    npy = saved(tmp_path / "a.npy", npy_header((), "|O") + content)
    assert reason(read_npy_object, npy) in ("unsafe_pickle", "truncated")
    if attack.startswith(("reduce", "eval", "in a")):
        assert reason(read_pickle, tmp_path / "a.pkl") == "unsafe_pickle"
    assert not victim.exists()


def test_the_payload_of_these_tests_would_work(tmp_path):
    pickle.loads(attacks(tmp_path / "victim")["reduce 2"])
    assert (tmp_path / "victim").exists()


def test_a_joblib_file_that_would_run_code_does_not_run(tmp_path):
    joblib.dump({"walk": np.zeros(3), "b": Payload(os.mkdir, str(tmp_path / "victim"))}, tmp_path / "a.pkl")
    assert reason(read_pickle, tmp_path / "a.pkl") == "unsafe_pickle"
    assert not (tmp_path / "victim").exists()


# --- chance damage


def damaged(data: st.DataObject, content: bytes) -> bytes:
    mutable = bytearray(content)
    for _ in range(data.draw(st.integers(0, 5))):
        mutable[data.draw(st.integers(0, len(mutable) - 1))] = data.draw(st.integers(0, 255))
    return bytes(mutable[: data.draw(st.integers(0, len(mutable)) | st.just(len(mutable)))])


def read_or_refused(read: Callable[..., Any], *args: Any) -> None:
    try:
        assert read(*args) is not None
    except Rejected as rejected:
        assert re.fullmatch("[a-z0-9_]+", rejected.reason)


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged"
    stream = io.BytesIO()
    match data.draw(st.sampled_from(["npz", "npy", "object", "pickle", "joblib"])):
        case "npz":
            np.savez_compressed(stream, **ARRAYS)
            read_or_refused(read_npz, saved(path, damaged(data, stream.getvalue())), ARRAYS)
            read_or_refused(npz_keys, path)
        case "npy":
            np.save(stream, ARRAYS["floats"])
            read_or_refused(read_npy, saved(path, damaged(data, stream.getvalue())))
            read_or_refused(is_object_npy, path)
        case "object":
            np.save(stream, np.array(MOTION, dtype=object), allow_pickle=True)
            read_or_refused(read_npy_object, saved(path, damaged(data, stream.getvalue())))
        case "pickle":
            read_or_refused(read_pickle, saved(path, damaged(data, pickle.dumps(MOTION, data.draw(st.integers(0, 5))))))
        case "joblib":
            joblib.dump(MOTION, stream)
            read_or_refused(read_pickle, saved(path, damaged(data, stream.getvalue())))


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(max_size=60) | st.sampled_from(["<f8", "|O", "<U3"]),
    shape=st.lists(st.integers(-2, 2**70), max_size=4),
)
def test_a_made_up_header_is_read_or_refused(tmp_path_factory, text, shape):
    header = (
        repr({"descr": text, "fortran_order": False, "shape": tuple(shape)}).encode("utf-8", "replace").decode("latin1")
    )
    path = saved(tmp_path_factory.getbasetemp() / "header.npy", raw_header(header) + bytes(64))
    read_or_refused(read_npy, path)
    read_or_refused(read_npy_object, path)
