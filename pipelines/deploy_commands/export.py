"""`loom deploy export`."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

PRECISIONS = ("float32", "int8")
"""The keys of `deploy.bundle.STEPS`, repeated here because reading them there takes a second."""


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("student", type=Path, metavar="RUN", help="folder of a student's run")
    add("bundle", type=Path, metavar="BUNDLE", help="folder to write; a bundle that is there is replaced")
    add("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="(default: both)")
    add("--checkpoint", metavar="NAME", help="a step, or best (default: the newest)")


def run(options: argparse.Namespace) -> int:
    """Make what a robot needs to run a student, without torch: models, contract and checksums in one folder. The models are tested
    against the student, frame by frame; where they answer otherwise, nothing is written."""
    from deploy.bundle import STEPS, WINDOW, open_bundle
    from pipelines.console import in_bytes, print_table
    from pipelines.train_commands.options import one_thread
    from trainer.export import export_bundle

    one_thread()
    export_bundle(options.student, options.bundle, precisions=options.precision, checkpoint=options.checkpoint)
    bundle = open_bundle(options.bundle)
    parity = bundle.facts["parity"]
    errors = {"float32": f"{parity.get('kv_parity_max_error', 0):.1e} at most"}
    errors["int8"] = ", ".join(f"{100 * x:.2f} % ({on})" for on, x in parity.get("int8_relative_error", {}).items())
    rows = [
        [name, in_bytes((bundle.folder / STEPS[name]).stat().st_size), errors[name], f"{_step_ms(bundle, name):.2f}"]
        for name in bundle.precisions
    ]
    window = in_bytes((bundle.folder / WINDOW).stat().st_size)
    rows.append(["window, float32", window, f"{parity['window_max_error']:.1e} at most", "–"])
    print_table(["model", "size", "error of actions", "ms per step"], rows, numeric=["size", "ms per step"])
    print(
        f"{bundle.folder}: contract {bundle.contract.hash}, window {bundle.window}, step {bundle.facts['source']['step']}"
    )
    return 0


def _step_ms(bundle: Any, precision: str, steps: int = 200) -> float:
    """Median [ms], with a full ring."""
    from deploy.bundle import PROBE, read_probe

    policy = bundle.policy(precision)
    frame = read_probe(bundle.folder / PROBE, bundle.contract)[0][0]
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        policy.act(frame)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)
