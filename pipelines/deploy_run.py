"""A run: bundle, motion, link, guard and log put together, and taken apart again whatever happens."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from corpus.errors import MotionloomError
from deploy.bundle import open_bundle
from deploy.contract import STANDING
from deploy.controller import Controller, frames_of
from deploy.dds import DdsLink
from deploy.guard import Guard
from deploy.live import LiveSource
from deploy.log import RunLog
from deploy.policy import StepPolicy
from deploy.reference import ClipSource, ReferenceSource
from deploy.report import Report
from deploy.runtime import Automatic, Run, run
from deploy.stance import can_be_stood_in
from deploy.stand import StandOptions
from pipelines.deploy_motion import motion_source

G1_MACHINE = 5
"""Unitree's number of the G1 with 29 joints that our figures are of; those with other gears, or with locked waists, have others."""
LISTEN_S = 0.5
"""Before the first command, listen so long whether somebody else commands the robot [s]."""


@dataclass(frozen=True)
class Wanted:
    """What is to run, where, on what."""

    bundle: Path
    follow: str = "stand"
    """As `pipelines.deploy_motion.motion_source` takes it."""
    commands: str | None = None
    source: str | None = None
    hold_s: float = StandOptions().hold_s
    """As `StandOptions.hold_s`."""
    seconds: float | None = None
    precision: str = "float32"
    domain: int = 0
    interface: str = "lo"
    with_sim: bool = False
    truth: Path | None = None
    log: Path | None = None
    """None: a name with the time of day; "-": none is kept."""
    robot: str = "sim"
    machine: int = G1_MACHINE
    """What the robot has to call itself."""
    licence: str = ""
    subject: str = ""


def deploy_run(wanted: Wanted, tell: Callable[[str], None] = lambda line: None) -> Run:
    """Stand, follow, stand, damp; what it came to."""
    bundle = open_bundle(wanted.bundle)
    policy = bundle.policy(wanted.precision)
    if wanted.truth is not None and not wanted.with_sim:
        raise MotionloomError("--truth is what a simulator writes that --with-sim starts.")
    with contextlib.ExitStack() as stack:
        link = DdsLink(wanted.domain, wanted.interface)
        stack.callback(link.close)
        source = motion_source(wanted.follow, frames_of(policy.contract), wanted.commands, wanted.source, link)
        stack.callback(source.close)
        journal = _journal(wanted, policy, source)
        if journal is not None:
            stack.callback(journal.close)
        if wanted.with_sim:
            stack.enter_context(simulator(wanted, tell))
        if rivals := link.rivals(LISTEN_S):
            raise MotionloomError(
                f"Somebody else commands the robot on domain {wanted.domain}: {rivals} commands in {LISTEN_S:g} s. "
                "Two controllers would fight over its motors: end the other one, or release the robot's own."
            )
        guard = stack.enter_context(Guard.start(wanted.domain, wanted.interface))
        asked = stack.enter_context(interrupts())
        stand = StandOptions(hold_s=wanted.hold_s)
        controller = Controller(
            policy, source, link, posture=posture_of(source), stand=stand, journal=journal, machine=wanted.machine
        )
        operator = Automatic(seconds=wanted.seconds, asked=asked, lasting=isinstance(source, LiveSource))
        operator.wait_s += wanted.hold_s
        if wanted.robot == "g1":
            operator.stand_s = np.inf  # until ctrl-C: damping lets a standing robot drop
        if isinstance(source, LiveSource):
            tell(f"listening on UDP port {source.port}; whoever stands still on both feet is followed; ctrl-C ends it")
        outcome = run(controller, operator, beat=guard.beat, told=Telling(tell))
        if journal is not None:
            journal.event(time.monotonic(), "end", **{k: v for k, v in asdict(outcome).items() if k != "stages"})
    for line in as_lines(outcome, controller, journal):
        tell(line)
    return outcome


def posture_of(source: ReferenceSource) -> Float[np.ndarray, " J"] | None:
    """In which the robot waits for the motion: the motion's own first posture where it can be stood in; of live motion (None) that
    of the person, as soon as they stand."""
    if isinstance(source, LiveSource):
        return None
    if isinstance(source, ClipSource) and can_be_stood_in(source.first):
        return source.first[7:]
    return STANDING


class Telling:
    """A line for every change of mode, with the fault that made it, and for faults that keep the robot from standing up."""

    def __init__(self, tell: Callable[[str], None]):
        self._tell, self._told = tell, ("", frozenset[str]())

    def __call__(self, now_s: float, report: Report) -> None:
        waits = report.modes.mode == "damping" and not report.modes.stopped
        told = report.modes.mode, frozenset(fault.name for fault in report.faults if waits)
        if told == self._told:
            return
        self._told = told
        why = "; ".join(f"{fault.name}: {fault.text}" for fault in report.faults)
        self._tell(report.modes.mode + (f" ({why})" if why else ""))


def as_lines(outcome: Run, controller: Controller, journal: RunLog | None) -> Iterator[str]:
    """What a person wants to know of a run."""
    yield (
        f"{outcome.periods} control periods, {outcome.tracked} of them following; {outcome.misses} late "
        f"(worst {outcome.worst_late_s * 1000:.1f} ms); ended by {outcome.fault or 'itself'}"
    )
    for name, times in outcome.stages.items():
        yield f"  {name:8} p50 {times['p50_ms']:7.3f}   p99 {times['p99_ms']:7.3f}   max {times['max_ms']:7.3f} ms"
    if refused := dict(controller.link.refused):
        yield f"  refused: {', '.join(f'{count} {reason}' for reason, count in refused.items())}"
    if journal is not None and journal.dropped:
        yield f"  {journal.dropped} pieces of the log were lost: {journal.failure or 'a slow disk'}"


@contextlib.contextmanager
def simulator(
    wanted: Wanted, tell: Callable[[str], None], options: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """`loom deploy sim` with these `options` as a process of its own, ready."""
    command = [sys.executable, "-m", "pipelines.cli", "deploy", "sim"]
    command += ["--domain", str(wanted.domain), "--interface", wanted.interface, *options]
    if wanted.truth is not None:
        command += ["--truth", str(wanted.truth)]
    # A session of its own: ctrl-C is the controller's.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        first = process.stdout.readline().strip()
        if not first.startswith("ready"):
            raise MotionloomError(f"The simulator did not start: {first or 'see above'}.")
        tell(f"simulator {first}")
        yield process
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=60)
        if rest.strip():
            tell(f"simulator: {rest.strip().splitlines()[-1]}")


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], int]]:
    """How often ctrl-C or SIGTERM came; the fourth goes through, for a program that hangs."""
    count, before = [0], {}

    def count_up(number: int, frame: Any) -> None:
        count[0] += 1
        if count[0] > 3:
            raise KeyboardInterrupt

    with contextlib.suppress(ValueError):  # not the main thread
        before = {number: signal.signal(number, count_up) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: count[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _journal(wanted: Wanted, policy: StepPolicy, source: ReferenceSource) -> RunLog | None:
    if wanted.log is not None and str(wanted.log) == "-":
        return None
    path = wanted.log or Path(f"run-{datetime.now():%Y%m%d-%H%M%S}.g1run")
    facts = {
        "robot": wanted.robot,
        "follow": wanted.follow,
        "source": source.name,
        "bundle": wanted.bundle.name,
        "precision": wanted.precision,
    }
    return RunLog(path, policy.contract, facts, licence=wanted.licence, subject=wanted.subject)
