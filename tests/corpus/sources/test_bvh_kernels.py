"""Numbers of a BVH read by the kernel: to the last bit those that Python reads, or none at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.sources.bvh_kernels import read_table

NUMBERS = st.one_of(
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: f"{x:.6f}"),
    st.floats(-1e4, 1e4, allow_nan=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: f"{x:.8e}"),
    st.integers(-(10**12), 10**12).map(str),
    st.sampled_from(["0", "-0", "+1", ".5", "5.", "-0.000", "1e5", "1E-5", "00012", "123456789012345"]),
)
BLANKS = st.sampled_from([" ", "\t", "  ", " \t "])


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=6), BLANKS, st.sampled_from(["\n", "\r\n"])
)
def test_what_is_read_is_what_python_reads(rows, blank, newline):
    text = newline.join(blank.join(row) for row in rows) + newline
    found = read_table(text.encode(), len(rows), 3)
    expected = np.array([[float(number) for number in row] for row in rows])
    digits = max(sum(c.isdigit() for c in number.lower().split("e")[0]) for row in rows for number in row)
    powers = [abs(int(number.lower().split("e")[1])) for row in rows for number in row if "e" in number.lower()]
    if digits <= 15 and max(powers, default=0) <= 10:
        assert found is not None
    if found is not None:
        assert np.array_equal(found, expected) and np.array_equal(np.signbit(found), np.signbit(expected))


@pytest.mark.parametrize(
    "text",
    ["1 2\n3", "1 2 3 4\n", "1 2 x\n", "1 2 nan\n", "1 2 inf\n", "1 2 0x10\n", "1 2 3e\n", "1 2 --3\n", "1 2 3_0\n", "1 2 .\n",
     "1 2 3\n4 5 6\n", "", "\n\n", "1 2 1234567890123456\n", "1 2 3e99\n", "1 2 3\x00\n"],
)  # fmt: skip
def test_what_is_no_table_of_three_plain_numbers_is_left_to_others(text):
    assert read_table(text.encode(), 1, 3) is None


def test_a_table_said_to_be_larger_than_its_text_is_refused_before_any_memory_is_asked_for():
    assert read_table(b"1 2 3\n", 10**9, 10**6) is None
    assert read_table(b"1 2 3\n", 0, 3) is None
