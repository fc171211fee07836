"""Every fault that the benchmark knows, injected while a motion is followed."""

from __future__ import annotations

import pytest

pytest.importorskip("mujoco")

from benchmarks.deploy_faults import FAULTS, WITHIN_MS, inject

SETTLES = {
    "ctrl-C once", "the stream ends without a word", "the source fails", "the source shows nothing", "the reference jumps",
    "the reference lies down", "the reference in the sky", "NaN in the reference", "no rotation in the reference",
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_the_following_within_a_fifth_of_a_second(name):
    mode, ms = inject(name)
    assert mode == ("settle" if name in SETTLES else "damping")
    assert ms <= WITHIN_MS


def test_nothing_ends_it_where_there_is_no_fault():
    FAULTS["none"] = lambda world: None
    try:
        assert inject("none") == ("settle", pytest.approx(1000, abs=50))  # the run is over
    finally:
        del FAULTS["none"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["DDS: the simulator killed", "DDS: the controller hung", "DDS: old messages between the new"]
)
def test_a_fault_of_whole_processes_ends_in_damping(name, dds_domain):
    """How soon is the benchmark's to say: here the machine may be busy."""
    pytest.importorskip("cyclonedds")
    from benchmarks.deploy_faults_dds import inject_dds

    assert inject_dds(name, domain=dds_domain)[0] == "damping"
