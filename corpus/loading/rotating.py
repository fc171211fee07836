"""Windows from a rotating buffer of whole shards, for corpora on cold disks or far away: reads are whole files, one after the
other, and every frame read is used several times.

The buffer has K slots. Each holds a shard for P steps, then the next one; they change in turn, not all at once. Which shard,
and which windows of it, is a function of seed, step, plan, K and P, so batches are the same for any number of ranks.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Int

from corpus.catalog import Corpus
from corpus.errors import CorruptShard, MotionloomError
from corpus.loading.feistel import ROUNDS, permute
from corpus.loading.sampler import Draw, Sampler, to_unit
from corpus.loading.windows import Addresses
from corpus.store import Shard

log = logging.getLogger(__name__)

READERS = 2
"""Threads that read: one file's bytes are on their way while another's are asked for."""


class RotatingSampler(Sampler):
    """Draws element b of a batch of B from slot b·K/B of the buffer: a rank, which has neighbouring elements, reads only its
    part of the shards.

    Shards are loaded in rounds of as many as there are. In a round a shard comes as often as its weight says, rounded up or
    down so that the mean is right: of shards of equal weight each comes once. So every window is drawn as often as the plan says.
    """

    def __init__(self, *arguments, shard_of: Int[np.ndarray, " S"], resident: int, stay: int, **options):
        """`resident` shards at a time (K), each for `stay` steps (P); `shard_of` gives each segment's shard, in order."""
        super().__init__(*arguments, **options)
        if self.epochs:
            raise MotionloomError("Exact epochs need all shards at once: mode 'mapped'.")
        if not 1 <= resident <= self.batch_size or stay < 1:
            raise MotionloomError(
                f"{resident} resident shards for {stay} steps: should be from 1 to the batch size {self.batch_size}, for 1 or more."
            )
        if (np.diff(shard_of) < 0).any():
            raise MotionloomError("The segments of a shard should follow one another in the catalog: fold it anew.")
        self.resident, self.stay = resident, stay
        ends = np.cumsum(np.bincount(shard_of))
        self._high = self.search.cumulative[ends - 1]
        self._low = np.append(0.0, self._high[:-1])
        self._weight = self._high - self._low
        self._drawn_from = np.flatnonzero(self._weight > 0)
        self._mine = np.unique(self._slot_of(self.slots))
        self._rounds: dict[int, np.ndarray] = {}

    def draw(self, step: int, slots: slice | None = None) -> Draw:
        slots = slots or self.slots
        uniform = self.uniform(step, slots)
        shard = self._loaded(self._generation(step))[self._slot_of(slots)]
        low, high = self._low[shard], self._high[shard]
        # Never the shard's upper end itself, which is the next one's.
        number = np.minimum(low + uniform[:, 0] * (high - low), np.nextafter(high, 0))
        return self.drawn(step, self.search(number), uniform)

    def state(self, step: int) -> dict[str, int]:
        return {**super().state(step), "resident": self.resident, "stay": self.stay}

    def shards(self, step: int) -> list[int]:
        """The shards that this rank needs at a step."""
        return self._loaded(self._generation(step))[self._mine].tolist()

    def next_shards(self, step: int, count: int) -> list[int]:
        """The `count` shards that this rank needs next, after those of this step, the first of them first."""
        generation = self._generation(step)
        begins = (generation + 1) * self.stay - self._offset()
        order = self._mine[np.argsort(begins[self._mine], kind="stable")]
        return self._loaded(generation + 1)[order[:count]].tolist()

    def _slot_of(self, elements: slice) -> Int[np.ndarray, " B"]:
        return np.arange(elements.start, elements.stop) * self.resident // self.batch_size

    def _offset(self) -> Int[np.ndarray, " K"]:
        """Steps by which each slot is ahead of the first, so that one changes after the other."""
        return np.arange(self.resident) * self.stay // self.resident

    def _generation(self, step: int) -> Int[np.ndarray, " K"]:
        """How many times each slot has changed its shard."""
        return (step + self._offset()) // self.stay

    def _loaded(self, generation: Int[np.ndarray, " K"]) -> Int[np.ndarray, " K"]:
        """The shard in each slot."""
        number, place = np.divmod(generation * self.resident + np.arange(self.resident), len(self._drawn_from))
        shard = np.empty_like(place)
        for one in np.unique(number):
            shard[number == one] = self._round(int(one))[place[number == one]]
        return shard

    def _round(self, number: int) -> Int[np.ndarray, " N"]:
        """The shards of a round in the order of their loading, drawn systematically by weight from a random order."""
        if number not in self._rounds:
            count = len(self._drawn_from)
            order = self._drawn_from[permute(np.arange(count), count, self.bits("shards", number, ROUNDS))]
            total = np.cumsum(self._weight[order])
            points = (np.arange(count) + to_unit(self.bits("offsets", number, 1))) / count
            picked = order[np.searchsorted(total / total[-1], points, side="right")]
            self._rounds = {n: r for n, r in self._rounds.items() if abs(n - number) < 3}
            # What comes more than once comes spread over the round.
            self._rounds[number] = picked[permute(np.arange(count), count, self.bits("loads", number, ROUNDS))]
        return self._rounds[number]


class ResidentRows:
    """The shards that a rotation needs, whole in memory; the next ones are read by threads while the present ones are used."""

    def __init__(self, corpus: Corpus, sampler: RotatingSampler, *, read_ahead: int = 2):
        self.corpus, self.sampler, self.read_ahead = corpus, sampler, read_ahead
        self.columns = corpus.shard(0).qpos.shape[1]
        self._reads: dict[int, Future[tuple[np.ndarray, np.ndarray]]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._process = 0

    def addresses(self, step: int, shard: Int[np.ndarray, " B"]) -> Addresses:
        if self._process != os.getpid():  # a forked worker has the reads of its parent, but not its threads
            self._threads, self._reads, self._process = ThreadPoolExecutor(READERS, "motionloom-read"), {}, os.getpid()
        needed = set(shard.tolist())
        wanted = {*needed, *self.sampler.shards(step)}
        upcoming = set(self.sampler.next_shards(step, self.read_ahead)) - wanted
        # What is no longer wanted is forgotten here, and held until then by the batches that are being made of it.
        reads = self._reads = {number: self._read(number) for number in (*wanted, *upcoming)}
        held = {number: reads[number].result() for number in needed}
        qpos, contact = np.zeros((2, len(self.corpus.shard_ids)), np.uint64)
        for number, rows in held.items():
            qpos[number], contact[number] = (array.ctypes.data for array in rows)
        return Addresses(qpos, contact, held)

    def _read(self, number: int) -> Future[tuple[np.ndarray, np.ndarray]]:
        """The shard, being read if it was not, or if that failed."""
        read = self._reads.get(number)
        if read is None or (read.done() and read.exception()):
            assert self._threads is not None
            read = self._threads.submit(lambda: read_shard(self.corpus.shard(number)))
        return read

    def __getstate__(self) -> dict:
        # Another process reads for itself.
        return {**vars(self), "_reads": {}, "_threads": None, "_process": 0}


def read_shard(shard: Shard) -> tuple[np.ndarray, np.ndarray]:
    """`qpos` and `contact` of a shard, read whole."""
    qpos, contact = (shard.path / name / "c" / "0" / "0" for name in ("qpos", "contact"))
    return _read_like(qpos, shard.qpos), _read_like(contact, shard.contact)


def _read_like(path: Path, mapped: np.ndarray) -> np.ndarray:
    """The file's rows, which `mapped` shows: opening it has checked that they lie in order from the first byte."""
    rows = np.empty(mapped.shape, mapped.dtype)
    try:
        opened = path.open("rb", buffering=0)
    except FileNotFoundError:
        # It has given way in its cache since it was opened; what is mapped stays.
        rows[:] = mapped
        return rows
    with opened as file:
        rest = rows.reshape(-1).view(np.uint8).data
        while len(rest):
            count = file.readinto(rest)
            if not count:
                raise CorruptShard(f"{path}: ends {len(rest)} bytes before its last row.")
            rest = rest[count:]
    return rows
