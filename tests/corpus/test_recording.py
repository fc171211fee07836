from __future__ import annotations

import contextlib
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import squat, write_run

from corpus.errors import Rejected
from corpus.recording import HEADER_BYTES, MAGIC, RECORD, chunk, describe, header_bytes, read_recording

ABOUT = {
    "contract": {}, "control_hz": 50.0, "facts": {}, "licence": "", "subject": "", "recording": "r", "started_utc": "",
}  # fmt: skip


def row(count: int = 0, **fields) -> bytes:
    record = np.zeros(1, RECORD)
    record["time_s"], record["number"], record["root_rotation"] = count * 0.02, count, [1, 0, 0, 0]
    record["mode"] = b"track"
    for name, value in fields.items():
        record[name] = value
    return chunk(b"STEP", record.tobytes())


@pytest.fixture(scope="module")
def file_of(tmp_path_factory):
    def write(data: bytes):
        path = tmp_path_factory.getbasetemp() / "made.g1run"
        path.write_bytes(data)
        return path

    return write


def reason(file_of, data: bytes) -> str:
    with pytest.raises(Rejected) as caught:
        read_recording(file_of(data))
    return caught.value.reason


def test_what_was_written_is_read(tmp_path):
    motion = squat(1.0)
    found = read_recording(write_run(tmp_path / "a.g1run", motion, licence="own", subject="me", recording="run 7"))
    np.testing.assert_allclose(found.joint_position, motion.joint_position, atol=1e-6)
    np.testing.assert_allclose(found.root_rotation, motion.root_rotation, atol=1e-6)
    np.testing.assert_allclose(found.reference_qpos, motion.qpos, atol=1e-6)
    np.testing.assert_allclose(np.diff(found.time_s), 0.02, atol=1e-9)
    assert set(found.mode) == {"track"} and set(found.status) == {"live"}
    assert list(found.stages) == ["read", "infer"] and found.stages["infer"][3] == pytest.approx(4e-4)
    assert (found.cut_bytes, found.cut_count, found.lost_count) == (0, 0, 0)
    header = {name: found.header[name] for name in ("licence", "subject", "recording", "control_hz")}
    assert header == {"licence": "own", "subject": "me", "recording": "run 7", "control_hz": 50.0}


def test_a_file_torn_at_any_byte_gives_the_rows_before_it(file_of):
    begin = header_bytes(ABOUT)
    event = chunk(b"EVNT", json.dumps({"time_s": 0.03, "name": "x"}).encode())
    parts = [row(0), row(1), event, row(2)]
    ends = np.cumsum([len(part) for part in parts]) + len(begin)
    data = begin + b"".join(parts)

    @settings(max_examples=300, deadline=None)
    @given(st.integers(0, len(data)))
    def torn(size: int):
        if size < len(begin):
            with pytest.raises(Rejected):
                read_recording(file_of(data[:size]))
            return
        found = read_recording(file_of(data[:size]))
        whole = int((ends <= size).sum())
        assert len(found.time_s) == sum(part[:4] == b"STEP" for part in parts[:whole])
        assert len(found.events) == int(whole > 2)
        assert found.cut_bytes == size - (ends[whole - 1] if whole else len(begin))
        assert (found.cut_count > 0) == (found.cut_bytes > 0)

    torn()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_file_with_any_byte_changed_is_refused_or_cut(file_of, data):
    whole = header_bytes(ABOUT) + row(0) + chunk(b"STGS", b'["read"]') + row(1)
    broken = bytearray(whole)
    broken[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = read_recording(file_of(bytes(broken)))
    except Rejected:
        return
    assert found.cut_bytes > 0 and len(found.time_s) < 2


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000))
def test_no_bytes_whatever_crash_the_reader(file_of, data):
    for path in (file_of(data), file_of(header_bytes(ABOUT) + data), file_of(MAGIC + data)):
        with contextlib.suppress(Rejected):
            found = read_recording(path)
            assert found.joint_position.shape == (len(found.time_s), 29)
            assert np.isfinite(found.joint_position).all() and found.cut_bytes >= 0


def test_a_run_of_no_steps_is_empty(file_of):
    found = read_recording(file_of(header_bytes(ABOUT)))
    assert len(found.time_s) == 0 and found.joint_position.shape == (0, 29) and found.lost_count == 0


def test_jumps_of_the_numbers_are_lost_steps(file_of):
    assert read_recording(file_of(header_bytes(ABOUT) + row(3) + row(4) + row(9))).lost_count == 4


@pytest.mark.parametrize(
    "fields",
    [{"joint_position": np.nan}, {"time_s": np.nan}, {"time_s": 0.0}, {"number": 0}, {"root_rotation": 0.2}, {"angular_velocity": np.inf}],
)  # fmt: skip
def test_what_no_robot_measures_is_rejected(file_of, fields):
    assert reason(file_of, header_bytes(ABOUT) + row(0) + row(1, **fields)) in (
        "not_finite",
        "bad_time",
        "bad_quaternion",
    )


def test_an_action_that_is_no_number_is_kept(file_of):
    assert np.isnan(read_recording(file_of(header_bytes(ABOUT) + row(0, action=np.nan))).action).all()


def begin_of(text: bytes, length: int | None = None) -> bytes:
    return MAGIC + struct.pack("<II", len(text) if length is None else length, zlib.crc32(text)) + text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not_motion"),
        (b"PK\3\4" + bytes(100), "not_motion"),
        (MAGIC, "truncated"),
        (begin_of(b"{}", HEADER_BYTES + 1), "bad_header"),
        (begin_of(b"{}", 2**32 - 1), "bad_header"),
        (begin_of(b"{}", 100), "truncated"),
        (begin_of(b"[" * 60000), "bad_header"),
        (begin_of(b"[]"), "bad_header"),
        (begin_of(b"{}"), "unknown_format"),
    ],
)
def test_headers_that_are_none_are_refused(file_of, data, expected):
    assert reason(file_of, data) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": 2}, "unknown_format"),
        ({"record": [["time_s", "<f8", []]]}, "unknown_format"),
        ({"record": "__import__('os')"}, "unknown_format"),
        ({"record": [*describe(RECORD)[:-1], ["stages", "|O", [16]]]}, "unknown_format"),
        ({"control_hz": 0}, "bad_frame_rate"),
        ({"control_hz": "50"}, "bad_frame_rate"),
        ({"licence": 3}, "bad_header"),
        ({"facts": None}, "bad_header"),
    ],
)
def test_headers_that_say_what_cannot_be_are_refused(file_of, change, expected):
    text = json.dumps({"format": 1, "record": describe(RECORD), **ABOUT, **change}).encode()
    assert reason(file_of, begin_of(text)) == expected


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(Rejected, match="unreadable"):
        read_recording(tmp_path / "none.g1run")
