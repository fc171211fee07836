"""What can go wrong, told apart: bad data is a row with a reason (`Rejected`), a wrong call is an error that says what is right."""

from __future__ import annotations


class MotionloomError(Exception):
    """A mistake a person can mend; the command prints its one line and exits 1, without a traceback."""


class UnknownSource(MotionloomError):
    """No source of that name."""


class CorruptShard(MotionloomError):
    """A shard on disk does not hold what the format promises."""


class RecipeMismatch(MotionloomError):
    """The corpus was made by another recipe."""


class Rejected(Exception):
    """This clip or segment is left out, for a reason somebody can count.

    `reason` is a short snake_case word; `numbers` are the measured values and limits that decided it.
    `detail` is one sentence for a person.
    """

    def __init__(self, reason: str, detail: str = "", **numbers: float | int | str):
        super().__init__(reason, detail, numbers)
        self.reason = reason
        self.detail = detail
        self.numbers = numbers

    def __str__(self) -> str:
        numbers = ", ".join(f"{name}={value}" for name, value in self.numbers.items())
        return f"{self.reason}{f' ({numbers})' if numbers else ''}{f': {self.detail}' if self.detail else ''}"
