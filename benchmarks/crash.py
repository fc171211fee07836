"""Is a corpus that was killed many times the one that an undisturbed build gives?

    python -m benchmarks.crash [--kills N] [--seed N]

Files of four data sets, made up and some broken, are built on a Dask scheduler and workers started by command. At random
moments SIGKILL hits the client, the scheduler, a worker or its nanny; what died is started again, and the client runs the same
command. Whenever a client ends by itself its corpus is complete and the next round begins in a new folder. After every kill all
shards that can be seen must be whole; every finished corpus must be, byte for byte, the one built without a kill in one process.
Shards are small here, so that many kills hit the moments at which they, the plan and the catalog appear. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import psutil
from rich.console import Console
from rich.table import Table

from corpus.sources.synthetic import write_demo_data
from corpus.store import verify_shard
from pipelines import plan
from pipelines.inventory import troubles

SHARD_FRAMES = 2_000
"""About how many frames make a shard here, 100 times fewer than in earnest."""
WORKERS = 2
WAITS_S = (0.0, 0.5, 2.0, 5.0, 10.0)
"""A kill comes at random between two of these after the last one: many at the start, some in the midst of the work."""

CLIENT = f"""
import sys
from pipelines import plan
plan.SHARD_FRAMES = plan.SMALL_SHARD_FRAMES = {SHARD_FRAMES}
from pipelines.cli import main
sys.exit(main(sys.argv[1:]))
"""


def main() -> None:
    options = _parser().parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="motionloom-crash-") as name:
        work = Path(name)
        sources = write_demo_data(work / "data", seconds=8.0, copies=8)
        whole = work / "undisturbed"
        start = time.monotonic()
        subprocess.run(_command(sources, whole, "inline"), check=True, capture_output=True)
        undisturbed_s = time.monotonic() - start
        expected = digests(whole)
        battle = Battle(sources, work, random.Random(options.seed))
        try:
            battle.fight(options.kills)
        finally:
            battle.end()
        outs = sorted(work.glob("round-*"))
        figures = {
            "kills": sum(battle.kills.values()),
            **{f"kills_of_{victim}": battle.kills[victim] for victim in Battle.VICTIMS},
            "lost": sum(lost(whole, out) for out in outs),
            "duplicated": sum(duplicated(out) for out in outs),
            "torn": battle.torn,
            "identical": all(digests(out) == expected for out in outs),
            "troubles": sum(1 for out in outs for _ in troubles(out)),
            "rounds": len(outs),
            "shards": len(list((whole / "shards").iterdir())),
            "client_runs": battle.client_runs,
            "undisturbed_s": round(undisturbed_s, 1),
            "seconds": round(time.monotonic() - start, 1),
        }
    show(figures)
    print(json.dumps(figures))


@dataclass
class Battle:
    """Processes that are killed and started again until the corpus is there."""

    VICTIMS = ("client", "scheduler", "worker", "nanny")

    sources: dict[str, Path]
    work: Path
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    torn: int = 0
    """Shards that could be seen after a kill and were not whole."""
    client_runs: int = 0
    rounds: int = 0
    _running: dict[str, subprocess.Popen] = field(default_factory=dict)
    _address: str = ""
    _checked: set[Path] = field(default_factory=set)

    @property
    def out(self) -> Path:
        return self.work / f"round-{self.rounds:02d}"

    def fight(self, kills: int) -> None:
        """Kill until there were so many; then let the last corpus be finished undisturbed."""
        while sum(self.kills.values()) < kills:
            low = self.rng.randrange(len(WAITS_S) - 1)
            self.wait(self.rng.uniform(*WAITS_S[low : low + 2]))
            self.kill(self.rng.choice(self.VICTIMS))
            self.look()
        while self.client.poll() != 0:
            self.start()
            time.sleep(0.1)
        self.look()

    def wait(self, seconds: float) -> None:
        """Keep everything running for a while; a corpus that is finished makes room for the next."""
        deadline = time.monotonic() + seconds
        self.start()
        while time.monotonic() < deadline:
            time.sleep(0.02)
            if self.client.poll() == 0:
                self.look()
                self.rounds += 1
            self.start()

    def start(self) -> None:
        """Start what is not running."""
        if self._dead("scheduler"):
            for name in [name for name in self._running if name != "client"]:
                self._stop(name)
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self._address = f"127.0.0.1:{free.getsockname()[1]}"
            host, port = self._address.split(":")
            self._start("scheduler", "distributed.cli.dask_scheduler", "--host", host, "--port", port, "--no-dashboard")
        for name in (f"nanny-{number}" for number in range(WORKERS)):
            if self._dead(name):
                address = f"tcp://{self._address}"
                options = ("--nthreads", "1", "--no-dashboard", "--local-directory", str(self.work / "dask"))
                self._start(name, "distributed.cli.dask_worker", address, "--host", "127.0.0.1", *options)
        if self._dead("client"):
            self.client_runs += 1
            self._running["client"] = _popen(_command(self.sources, self.out, f"tcp://{self._address}"))

    def kill(self, victim: str) -> None:
        """SIGKILL to one process of this kind, if there is one now."""
        nannies = [p for name, p in self._running.items() if name.startswith("nanny") and p.poll() is None]
        if victim in ("client", "scheduler"):
            processes = [] if self._dead(victim) else [self._running[victim].pid]
        elif victim == "nanny":
            processes = [nanny.pid for nanny in nannies]
        else:
            processes = [child.pid for nanny in nannies for child in _workers_of(nanny.pid)]
        if processes:
            os.kill(self.rng.choice(sorted(processes)), signal.SIGKILL)
            self.kills[victim] += 1

    def look(self) -> None:
        """Whatever shard can be seen must be whole, now and for good: each is read once."""
        for shard in plan.finished_shards(self.out):
            path = self.out / "shards" / shard
            if path not in self._checked:
                self._checked.add(path)
                self.torn += bool(verify_shard(path))

    @property
    def client(self) -> subprocess.Popen:
        return self._running["client"]

    def end(self) -> None:
        for name in list(self._running):
            self._stop(name)

    def _dead(self, name: str) -> bool:
        return name not in self._running or self._running[name].poll() is not None

    def _start(self, name: str, module: str, *arguments: str) -> None:
        self._running[name] = _popen([sys.executable, "-m", module, *arguments])

    def _stop(self, name: str) -> None:
        """Kill a process with all that it started."""
        process = self._running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def lost(whole: Path, out: Path) -> int:
    """Clips of the undisturbed corpus that this one does not tell of."""
    return _clips(whole).join(_clips(out), on=plan.IDENTITY, how="anti").height


def duplicated(out: Path) -> int:
    """Clips that stand in the catalog, and kept frames that stand in the shards, more than once."""
    segments = pl.read_parquet(out / "catalog" / "segments-*.parquet").filter(pl.col("status") == "kept")
    twice = _clips(out).select(plan.IDENTITY).is_duplicated(), segments["segment"].is_duplicated()
    return sum(int(rows.to_numpy().sum()) for rows in twice)


def digests(out: Path) -> dict[str, str]:
    """Hash of every file of a corpus; the cache of keys tells of this machine and the quarantine is no part of it."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name not in ("keys.parquet", ".lock")]
    names = {path.relative_to(out).as_posix(): path for path in files}
    return {
        name: hashlib.blake2b(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not name.startswith("quarantine/")
    }


def show(figures: dict) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("what")
    table.add_column("measured", justify="right")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), str(value))
    Console(width=100).print(table)


def _clips(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "catalog" / "clips-*.parquet")


def _workers_of(nanny: int) -> list[psutil.Process]:
    """Python processes that a nanny has started, but for the tracker of shared resources."""
    try:
        children = psutil.Process(nanny).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def _command(sources: dict[str, Path], out: Path, scheduler: str) -> list[str]:
    given = [text for name, root in sources.items() for text in ("--source", f"{name}={root}")]
    return [sys.executable, "-c", CLIENT, "build", *given, "--out", str(out), "--scheduler", scheduler]


def _popen(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash", description="Kill a build, again and again.")
    parser.add_argument("--kills", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and victims (default 0)")
    return parser


if __name__ == "__main__":
    main()
