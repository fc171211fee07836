"""Policies as text and as files: `cluster:tau=0.2`, or a TOML or JSON file with a list of them.

cap = 10

[[policy]]
name = "cluster"
share = 0.7
tau = 0.2

[[policy]]
name = "source"
share = 0.3
amass = 0.5
lafan1 = 0.5
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from corpus.errors import MotionloomError
from corpus.loading.sampling_plan import Plan
from hme.sampling.mixing import capped, capped_in_bins, mixed
from hme.sampling.policies import POLICIES, Pool


@dataclass(frozen=True)
class Part:
    """A policy and its share of the windows."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0
    """Only its proportion to the other parts' counts."""

    def __post_init__(self) -> None:
        self.made()

    def made(self) -> Any:
        """The policy's options; raises `MotionloomError` where there is no such policy, option or value."""
        if self.name not in POLICIES:
            raise MotionloomError(f"No policy {self.name!r}. Known: {', '.join(POLICIES)}.")
        try:
            made = POLICIES[self.name].options(**self.options)
        except TypeError:
            made = None
        if made is None or not _fit(made):
            known = ", ".join(f"{name}={value!r}" for name, value in vars(POLICIES[self.name].options()).items())
            raise MotionloomError(f"Policy {self.name} with {dict(self.options)}: it takes {known or 'no options'}.")
        return made


@dataclass(frozen=True)
class Spec:
    """Policies, mixed."""

    parts: tuple[Part, ...]
    cap: float | None = None
    """No window more than so many times as often as if all came equally often; None for no limit."""

    def plan(self, pool: Pool) -> Plan:
        """The plan for what can be drawn."""
        plans = [POLICIES[part.name].plan(pool, part.made()) for part in self.parts]
        plan = mixed(plans, [part.share for part in self.parts], pool.frames, pool.window)
        if self.cap is None:
            return plan
        if plan.bins is None:
            return capped(plan, pool.windows, self.cap)
        return capped_in_bins(plan, pool.frames, pool.window, self.cap, pool.mask)

    def as_values(self) -> dict[str, Any]:
        """What a file would say; `spec_of` reads it."""
        policies = [{"name": part.name, "share": part.share, **part.options} for part in self.parts]
        return {"policy": policies} | ({} if self.cap is None else {"cap": self.cap})


def parse_spec(texts: Sequence[str], shares: Sequence[float] = (), cap: float | None = None) -> Spec:
    """Policies such as `cluster:tau=0.2`, with their shares; all alike where none are given."""
    parts = [_parse(text) for text in texts]
    if shares and len(shares) != len(parts):
        raise MotionloomError(f"{len(parts)} policies, {len(shares)} shares: should be one each.")
    return Spec(
        tuple(replace(part, share=share) for part, share in zip(parts, shares or [1.0] * len(parts), strict=True)), cap
    )


def read_spec(path: Path) -> Spec:
    """From a TOML or JSON file."""
    try:
        text = path.read_text()
        return spec_of(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
    except (OSError, ValueError) as error:
        raise MotionloomError(f"{path} cannot be read as TOML or JSON ({error}).") from None


def spec_of(values: Mapping[str, Any]) -> Spec:
    """From plain values: `policy`, a list with a `name`, a `share` and options each, and `cap`."""
    policies = values.get("policy", [])
    if set(values) - {"policy", "cap"} or not policies or not all("name" in one for one in policies):
        raise MotionloomError(f"A list `policy`, each with a `name`, and `cap` are expected; got {dict(values)}.")
    parts = []
    for one in policies:
        options = {name: value for name, value in one.items() if name not in ("name", "share")}
        parts.append(Part(one["name"], options, float(one.get("share", 1.0))))
    return Spec(tuple(parts), values.get("cap"))


def _parse(text: str) -> Part:
    name, _, rest = text.partition(":")
    pairs = [pair.partition("=") for pair in rest.split(",")] if rest else []
    if any(not key or not value for key, _, value in pairs):
        raise MotionloomError(f"{text!r}: a policy reads NAME or NAME:OPTION=VALUE,OPTION=VALUE.")
    return Part(name, {key.strip(): _value(value.strip()) for key, _, value in pairs})


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _fit(made: Any) -> bool:
    """Are values of the kind that the defaults are of?"""
    defaults = vars(type(made)())
    return all(_fits(value, defaults[name]) for name, value in vars(made).items())


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, Mapping):
        return all(isinstance(one, int | float) for one in value.values())
    return isinstance(value, int | float) if isinstance(default, float) else isinstance(value, type(default))
