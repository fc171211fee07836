"""Mapped files read as arrays, cannot be written, hold no descriptor, and go when nobody looks at them any more."""

from __future__ import annotations

import errno
import gc
from pathlib import Path

import numpy as np
import pytest

from corpus import mapped
from corpus.errors import MotionloomError
from corpus.mapped import map_file

FLOAT = np.dtype("<f4")


@pytest.fixture
def file(tmp_path) -> Path:
    np.arange(600, dtype="<f4").tofile(tmp_path / "numbers")
    return tmp_path / "numbers"


def descriptor_count() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def maps_of(path: Path) -> int:
    return sum(line.endswith(f" {path}\n") for line in Path("/proc/self/maps").open())


def test_the_array_is_the_files_content(file):
    assert np.array_equal(map_file(file, FLOAT, (100, 6)), np.fromfile(file, FLOAT).reshape(100, 6))
    assert np.array_equal(map_file(file, FLOAT, (3, 6))[2], np.arange(12, 18))


def test_it_cannot_be_written_nor_made_writable(file):
    array = map_file(file, FLOAT, (100, 6))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_maps_hold_no_descriptors(file):
    before = descriptor_count()
    arrays = [map_file(file, FLOAT, (100, 6)) for _ in range(50)]
    assert descriptor_count() == before and maps_of(file) == len(arrays)


def test_a_map_stays_while_a_view_of_it_does(file):
    view = map_file(file, FLOAT, (100, 6))[50:, 2]
    gc.collect()
    assert maps_of(file) == 1 and view[0] == 302
    del view
    gc.collect()
    assert maps_of(file) == 0


def test_expecting_random_reads_changes_no_value_and_splits_no_map(tmp_path):
    np.zeros((9 * 4096, 1), "u1").tofile(tmp_path / "pages")
    array = map_file(tmp_path / "pages", np.dtype("u1"), (9 * 4096, 1))[: 3 * 4096]
    mapped.expect_random(array)
    mapped.expect_random(array[:0])
    (told,) = Path("/proc/self/smaps").read_text().split(f" {tmp_path / 'pages'}\n")[1:]
    assert "rr" in told.split("VmFlags:")[1].splitlines()[0].split() and not array.any()


def test_more_than_the_file_has_is_not_mapped(file):
    with pytest.raises(ValueError, match="shorter than 2424 bytes"):
        map_file(file, FLOAT, (101, 6))


def test_the_systems_limit_is_named(file, monkeypatch):
    monkeypatch.setattr(mapped._libc, "mmap", lambda *_: mapped._FAILED)
    monkeypatch.setattr(mapped.ctypes, "get_errno", lambda: errno.ENOMEM)
    with pytest.raises(MotionloomError, match=r"sysctl vm\.max_map_count"):
        map_file(file, FLOAT, (100, 6))
    monkeypatch.setattr(mapped.ctypes, "get_errno", lambda: errno.ENODEV)
    with pytest.raises(OSError, match="No such device"):
        map_file(file, FLOAT, (100, 6))
