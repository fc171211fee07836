"""Files of rows about a shard's segments: what goes in comes out, and damage is noticed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from corpus.errors import MotionloomError
from hme.shard_rows import read_shard_rows, write_shard_rows

NAMES = ["a-000000", "a-000050", "b-000000"]
COLUMNS = {
    "vector": np.arange(12, dtype=np.float32).reshape(3, 4),
    "frequency": np.array([0.5, np.nan, 2], np.float32),
    "padded": np.array([0, 1, 0], np.uint8),
}


@pytest.fixture
def path(tmp_path):
    write_shard_rows(tmp_path / "rows.arrow", NAMES, COLUMNS, made_by="x")
    return tmp_path / "rows.arrow"


def test_what_is_written_is_read(path):
    rows = read_shard_rows(path, checksums=True)
    assert rows.made_by == "x" and rows.table["segment"].to_pylist() == NAMES
    for name, values in COLUMNS.items():
        np.testing.assert_array_equal(rows.column(name), values)


def test_any_arrow_reader_reads_it(path):
    table = pa.ipc.open_file(path).read_all()
    assert table.column_names == ["segment", *COLUMNS]
    assert table["vector"].to_pylist() == COLUMNS["vector"].tolist()


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 7)), elements=st.floats(width=32)))
def test_any_numbers_come_back_to_the_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("rows") / "rows.arrow"
    write_shard_rows(path, [str(i) for i in range(len(values))], {"x": values}, made_by="y")
    assert read_shard_rows(path, checksums=True).column("x").tobytes() == values.tobytes()


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.95, 0.999])
def test_a_file_cut_off_is_noticed(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(MotionloomError, match="damaged"):
        read_shard_rows(path)


@pytest.mark.parametrize("value", [COLUMNS["vector"].tobytes()[4:8], b"b-000000"])
def test_a_flipped_bit_is_found_by_the_checksum(path, value):
    content = bytearray(path.read_bytes())
    content[content.index(value)] ^= 1
    path.write_bytes(bytes(content))
    read_shard_rows(path)
    with pytest.raises(MotionloomError, match="checksum"):
        read_shard_rows(path, checksums=True)


def test_another_arrow_file_is_not_taken_for_one(tmp_path):
    table = pa.table({"segment": ["a"]})
    with pa.ipc.new_file(str(tmp_path / "other.arrow"), table.schema) as file:
        file.write_table(table)
    with pytest.raises(MotionloomError, match="not a file of rows about segments"):
        read_shard_rows(tmp_path / "other.arrow")
