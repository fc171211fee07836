"""Datagrams judged by round trips, and by what must never come out of them."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.packets import FARTHEST, QPOS, REASONS, WIDEST, BadPacket, QposPacket, decode, encode_qpos, seal


def packet(**changes) -> QposPacket:
    qpos = np.zeros(36)
    qpos[:7] = 1.0, 2.0, 0.8, 0.5, 0.5, -0.5, 0.5
    qpos[7:] = np.linspace(-1, 1, 29)
    return replace(QposPacket(7, 1.0, 2.0, 3.0, qpos, stream=99), **changes)


def refused(data: bytes) -> str:
    with pytest.raises(BadPacket) as error:
        decode(data)
    assert error.value.reason in REASONS
    return error.value.reason


def with_crc(data: bytes) -> bytes:
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.floats(-1e9, 1e9),
    st.booleans(),
    st.lists(st.floats(-3, 3, width=32), min_size=32, max_size=32),
    st.integers(0, 2**31),
)
def test_what_is_sent_arrives(sequence, stream, time_s, last, numbers, seed):
    turn = np.random.default_rng(seed).normal(size=4)
    qpos = np.concatenate([numbers[:3], turn / np.linalg.norm(turn), numbers[3:]])
    sent = QposPacket(sequence, time_s, time_s + 1, time_s + 2, qpos, stream, last)
    got = decode(encode_qpos(sent))
    assert (got.sequence, got.made_s, got.sent_s, got.time_s) == (sequence, time_s, time_s + 1, time_s + 2)
    assert (got.stream, got.last) == (stream, last)
    assert np.abs(got.qpos - qpos).max() < 1e-6
    assert abs(np.linalg.norm(got.qpos[3:7]) - 1) < 1e-9


def test_a_sequence_wraps():
    assert decode(encode_qpos(packet(sequence=2**32 + 5))).sequence == 5


@pytest.mark.parametrize("place", [0, 4, 5, 8, 20, 60, 184])
def test_a_flipped_bit_is_found(place):
    data = bytearray(encode_qpos(packet()))
    data[place] ^= 4
    assert refused(bytes(data)) in ("magic", "version", "crc")


@pytest.mark.parametrize("length", [0, 3, 4, 27, 28, 100, 187])
def test_what_is_cut_short_is_refused(length):
    assert refused(encode_qpos(packet())[:length]) in ("magic", "length", "crc")


def test_a_whole_datagram_of_the_wrong_length_or_kind_says_so():
    assert refused(seal(QPOS, b"\0" * 100, 1, 1, 0.0)) == "length"
    assert refused(seal(2, b"\0" * 160, 1, 1, 0.0)) == "kind"
    data = bytearray(encode_qpos(packet()))
    data[4] = 9
    assert refused(with_crc(bytes(data))) == "version"


@pytest.mark.parametrize("index", [0, 2, 3, 6, 7, 35])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nothing_that_is_no_number_comes_through(index, value):
    qpos = packet().qpos
    qpos[index] = value
    assert refused(encode_qpos(packet(qpos=qpos))) == "not_finite"


@pytest.mark.parametrize(
    ("index", "value", "reason"),
    [(0, FARTHEST + 1, "range"), (2, -2e3, "range"), (7, WIDEST + 0.1, "range"), (35, -1e30, "range")]
    + [(3, 3.0, "quaternion"), (4, 0.0, "quaternion"), (5, -1e30, "quaternion")],
)
def test_what_is_absurd_is_refused(index, value, reason):
    qpos = packet().qpos
    qpos[index] = value
    assert refused(encode_qpos(packet(qpos=qpos))) == reason


@pytest.mark.parametrize("name", ["made_s", "sent_s", "time_s"])
@pytest.mark.parametrize(("value", "reason"), [(np.nan, "not_finite"), (np.inf, "not_finite"), (1e12, "range")])
def test_a_time_on_no_clock_is_refused(name, value, reason):
    assert refused(encode_qpos(packet(**{name: value}))) == reason


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused(data):
    assert refused(data) in ("length", "magic", "version", "kind", "crc")


@settings(deadline=None)
@given(st.binary(min_size=160, max_size=160))
def test_whatever_is_whole_is_safe_or_refused(payload):
    try:
        got = decode(seal(QPOS, payload, 1, 1, 0.0))
    except BadPacket as error:
        assert error.reason in REASONS
    else:
        assert np.isfinite(got.qpos).all() and np.abs(got.qpos[7:]).max() <= WIDEST
        assert np.abs(got.qpos[:3]).max() <= FARTHEST
