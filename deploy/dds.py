"""The two ends of Unitree's topics over DDS: a controller's (`DdsLink`) and a robot's (`DdsRobot`), with CycloneDDS as on the robot."""

# Topics and the quality of service: unitreerobotics/unitree_sdk2_python, unitree_sdk2py/core/channel.py (BSD-3, see NOTICE).
from __future__ import annotations

import functools
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar
from xml.sax.saxutils import quoteattr

from corpus.errors import MotionloomError
from deploy.link import Received
from deploy.messages import LowCmd, LowState
from deploy.wire import BadMessage, decode_command, decode_state, encode_command, encode_state

try:
    from cyclonedds.core import DDSException
    from cyclonedds.domain import Domain, DomainParticipant
    from cyclonedds.internal import InvalidSample
    from cyclonedds.pub import DataWriter
    from cyclonedds.qos import Policy, Qos
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic

    from deploy.dds_types import LowCmd_, LowState_
except ImportError as error:
    raise MotionloomError(f"The robot's topics need CycloneDDS ({error}): pip install 'motionloom[deploy]'.") from None

COMMAND_TOPIC, STATE_TOPIC = "rt/lowcmd", "rt/lowstate"
QUEUE = 64
"""Messages that may wait to be read, at most: 64 ms of a robot that speaks at 1 kHz."""

# Unitree's own programs take CycloneDDS's defaults: who writes offers to be reliable, who reads asks for best effort. So do we,
# as both then match whatever the other end offers or asks for. A write never waits: the next command is there in 20 ms. A writer
# that ends does not dispose of its topic, which another may still write to. Bytes are XCDR version 1, CycloneDDS's choice for
# these types, and the only one that `deploy.wire` knows.
_XCDR1 = Policy.DataRepresentation(use_cdrv0_representation=True, use_xcdrv2_representation=False)
WRITING = Qos(
    _XCDR1,
    Policy.Reliability.Reliable(max_blocking_time=0),
    Policy.History.KeepLast(1),
    Policy.WriterDataLifecycle(autodispose=False),
)
READING = Qos(
    _XCDR1,
    Policy.Reliability.BestEffort,
    Policy.History.KeepLast(QUEUE),
    Policy.IgnoreLocal.Participant,  # its own messages are no news to a guard
)

N = TypeVar("N", LowCmd, LowState)


class DdsLink:
    """The controller's end, a `deploy.link.Link`: states in, commands out."""

    def __init__(self, domain: int = 0, interface: str | None = None):
        """`interface` is that of the robot's network, as in eth0, or lo; without one CycloneDDS chooses."""
        self._participant = participant = join(domain, interface)
        self._states = Inbox(participant, STATE_TOPIC, LowState_, decode_state)
        self._commands = Outbox(participant, COMMAND_TOPIC, LowCmd_)

    def read(self) -> Received | None:
        """The newest whole state and when this method first saw it: called each control period, that is true to a period."""
        self._states.look()
        return None if self._states.newest is None else Received(self._states.newest, self._states.newest_s)

    @property
    def refused(self) -> Mapping[str, int]:
        """How many states were thrown away since the start, by `deploy.wire.REASONS`."""
        return self._states.refused

    def write(self, command: LowCmd) -> None:
        """Send it now; raises `BadMessage` where it holds what is no number."""
        self._commands.send(encode_command(command))

    def rivals(self, seconds: float) -> int:
        """How many commands somebody else has sent to this robot while this method listened [s]: another controller, or the robot's
        own, which nobody has switched off."""
        others = Inbox(self._participant, COMMAND_TOPIC, LowCmd_, decode_command)
        heard, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.02)
            others.look()
            heard += others.newest is not None
            others.newest = None
        others.close()
        return heard + sum(others.refused.values())

    def close(self) -> None:
        self._states.close()
        self._commands.close()


class DdsRobot:
    """The robot's end: commands in, states out."""

    def __init__(self, domain: int = 0, interface: str | None = None):
        participant = join(domain, interface)
        self._commands = Inbox(participant, COMMAND_TOPIC, LowCmd_, decode_command)
        self._states = Outbox(participant, STATE_TOPIC, LowState_)

    def read_command(self) -> tuple[LowCmd, float] | None:
        """The newest whole command, also where it was read before, and when this method first saw it [s]."""
        self._commands.look()
        return None if self._commands.newest is None else (self._commands.newest, self._commands.newest_s)

    @property
    def refused(self) -> Mapping[str, int]:
        """How many commands were thrown away since the start, by `deploy.wire.REASONS`."""
        return self._commands.refused

    def write_state(self, state: LowState) -> None:
        self._states.send(encode_state(state))

    def write_bytes(self, payload: bytes) -> None:
        """Send these as a state, whatever they say: for tests of what a controller makes of it."""
        self._states.send(payload)

    def close(self) -> None:
        self._commands.close()
        self._states.close()


class Inbox(Generic[N]):
    """The newest whole message of a topic, and how many were none."""

    def __init__(self, participant: DomainParticipant, topic: str, kind: Any, decode: Callable[[bytes], N]):
        self.newest: N | None = None
        self.newest_s = 0.0
        self.refused: Counter[str] = Counter()
        self._decode = decode
        self._reader = DataReader(participant, Topic(participant, topic, kind), READING)

    def look(self) -> None:
        """Take what has come, without waiting."""
        for sample in self._reader.take(QUEUE):
            if isinstance(sample, InvalidSample):  # tells that a writer has gone
                continue
            try:
                self.newest = self._decode(sample.payload)
                self.newest_s = time.monotonic()
            except BadMessage as error:
                self.refused[error.reason] += 1

    def close(self) -> None:
        del self._reader  # CycloneDDS's entities live as long as their Python objects


class Outbox:
    """Where messages of a topic go."""

    def __init__(self, participant: DomainParticipant, topic: str, kind: Any):
        self._kind = kind
        self._writer = DataWriter(participant, Topic(participant, topic, kind), WRITING)

    def send(self, payload: bytes) -> None:
        try:
            self._writer.write(self._kind(payload))
        except DDSException as error:
            if error.code != DDSException.DDS_RETCODE_TIMEOUT:  # its buffers are full: this one is lost
                raise

    def close(self) -> None:
        del self._writer


def join(domain: int, interface: str | None) -> DomainParticipant:
    """A participant in that domain; raises `MotionloomError` where there is no such interface."""
    try:
        _configure(domain, interface)
        return DomainParticipant(domain)
    except DDSException as error:
        there = ", ".join(name for _, name in socket.if_nameindex())
        message = (
            f"DDS domain {domain} on interface {interface}: {error}. Domains are 0 to 232; interfaces here: {there}."
        )
        raise MotionloomError(message) from None


@functools.cache
def _configure(domain: int, interface: str | None) -> Domain | None:
    """CycloneDDS keeps one configuration per domain and process: a second interface for the same domain is refused."""
    if interface is None:
        return None
    network = f"<Interfaces><NetworkInterface name={quoteattr(interface)}/></Interfaces>"
    return Domain(domain, f'<CycloneDDS><Domain Id="any"><General>{network}</General></Domain></CycloneDDS>')
