"""The kernels as a GPU runs them, compiled ahead of time for sm_90. Where a GPU is at hand, what they give there."""

from __future__ import annotations

import numpy as np
import pytest
import warp as wp

from corpus import dynamics, posture
from corpus.posture import postures
from corpus.sources.synthetic_moves import human_motion
from retarget import kernel
from retarget.retarget import RetargetOptions
from retarget.solver import Near, solve
from retarget.targets import build_targets

KERNELS = {
    "solve_runs": lambda: kernel.build_kernel(1).solve_runs,
    "postures": lambda: posture._build_kernel(1).measure,
    "dynamics": lambda: dynamics._build_kernel(1).measure,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_one_lane_a_thread_compiles_to_machine_code_for_sm_90(tmp_path, name):
    made = wp.compile_aot_module(KERNELS[name]().module, arch=90, module_dir=tmp_path, use_ptx=False)
    (cubin,) = [path for path in made if path.suffix == ".cubin"]
    content = cubin.read_bytes()
    assert content[:4] == b"\x7fELF"
    assert (
        KERNELS[name]().key.split("__")[-1].split("_")[0].encode() in content
    )  # the kernel's own name is an entry in it


@pytest.mark.skipif(not wp.is_cuda_available(), reason="no CUDA device")
def test_a_gpu_gives_what_the_cpu_gives(g1):
    human = human_motion("walk", seed=1, seconds=3.0)
    targets, _ = build_targets(human, g1, 50.0)
    options = RetargetOptions().first
    here, there = (solve(g1, targets, options, device=device).qpos for device in ("cpu", "cuda:0"))
    assert np.abs(here - there).max() < 2e-3
    near = Near(here, 3.0, np.ones(len(here), bool))
    here, there = (solve(g1, targets, options, near=near, device=device).qpos for device in ("cpu", "cuda:0"))
    assert np.abs(here - there).max() < 2e-3
    here, there = (postures(g1, here, device=device) for device in ("cpu", "cuda:0"))
    assert np.abs(here.lowest - there.lowest).max() < 1e-5 and np.abs(here.overlap - there.overlap).max() < 1e-5
