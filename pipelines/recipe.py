"""The recipe of a corpus: every choice that decides what is in it, as one frozen, hashed, stored value."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from corpus.errors import MotionloomError
from corpus.quality import Gate
from corpus.segment import CutOptions
from corpus.sources.options import LoadOptions
from retarget.retarget import RetargetOptions

FORMAT = 1
"""Version of the corpus on disk; see docs/format.md."""

T = TypeVar("T")


class BadRecipe(MotionloomError):
    """A recipe names a choice that does not exist, or gives it a value of the wrong kind."""


@dataclass(frozen=True)
class Reading:
    """`LoadOptions` with the content of the user's files in place of their paths."""

    body_models: str = ""
    """Digest of the folder of body models; empty where the mean skeleton is used."""
    skeleton: str = ""
    """Digest of the user's joint map for BVH files."""
    quaternion: Literal["auto", "wxyz", "xyzw"] = "auto"
    """Order of root quaternions in robot CSV files."""
    fps: float | None = None
    """Frame rate [Hz] of files that carry none."""


@dataclass(frozen=True)
class Recipe:
    retarget: RetargetOptions = field(default_factory=RetargetOptions)
    cut: CutOptions = field(default_factory=CutOptions)
    gate: Gate = field(default_factory=Gate)
    load: Reading = field(default_factory=Reading)
    format: int = FORMAT
    method: int = 3
    """Raised by hand whenever the same files and options would come out differently than before."""

    @property
    def fps(self) -> float:
        """Rate at which the corpus is stored [Hz]."""
        return self.retarget.fps

    @property
    def hash(self) -> str:
        return hashlib.blake2b(self.to_json().encode(), digest_size=16).hexdigest()

    def to_json(self) -> str:
        """One line, the same for equal recipes: sorted keys, and 1 written as 1.0 where a field is a float."""
        return json.dumps(dataclasses.asdict(_build(Recipe, dataclasses.asdict(self), "recipe")), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Fields that are not named keep their defaults; an unknown one is an error that lists those there are.

        The text may also be a whole `corpus.json`, which holds its recipe under "recipe".
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadRecipe(f"The recipe is not JSON: {error}.") from None
        return _build(cls, data.get("recipe", data) if isinstance(data, dict) else data, "recipe")


def with_reading(recipe: Recipe, load: LoadOptions) -> Recipe:
    """The recipe for files read in this way; a file that the recipe already names must have the same content."""
    reading = Reading(_digest(load.body_models), _digest(load.skeleton), load.quaternion, load.fps)
    for name in ("body_models", "skeleton"):
        wanted, got = getattr(recipe.load, name), getattr(reading, name)
        if wanted and wanted != got:
            given = "other" if got else "no"
            raise BadRecipe(f"The recipe was made with {name} of digest {wanted}; {given} files were given.")
    return dataclasses.replace(recipe, load=reading)


def with_choice(recipe: Recipe, name: str, value: str) -> Recipe:
    """The recipe with one field replaced, as in `with_choice(recipe, "gate.foot_slide", "0.2")`."""
    data = dataclasses.asdict(recipe)
    *groups, last = name.split(".")
    place: Any = data
    for group in groups:
        place = place.get(group) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place or isinstance(place[last], dict):
        raise BadRecipe(f"A recipe has no choice {name!r}. Known: {', '.join(sorted(choices(recipe)))}.")
    try:
        place[last] = json.loads(value)
    except json.JSONDecodeError:
        place[last] = value
    return _build(Recipe, data, "recipe")


def choices(recipe: Recipe) -> dict[str, Any]:
    """Every choice by its dotted name."""
    return dict(_flatten(dataclasses.asdict(recipe), ""))


def differences(there: str, here: Recipe) -> str:
    """What sets a stored recipe's JSON apart from `here`, in words."""
    old, new = dict(_flatten(json.loads(there), "")), choices(here)
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return ", ".join(f"{name} is {old.get(name)!r} there and {new.get(name)!r} here" for name in changed)


def _flatten(data: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in data.items():
        if isinstance(value, dict):
            rows += _flatten(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", list(value) if isinstance(value, tuple) else value))
    return rows


def _build(cls: type[T], data: Any, where: str) -> T:
    """A frozen dataclass from plain data, nested ones too, each value brought to its field's type."""
    if not isinstance(data, dict):
        raise BadRecipe(f"{where} should be an object, not {data!r}.")
    hints = typing.get_type_hints(cls)
    unknown = sorted(data.keys() - hints.keys())
    if unknown:
        raise BadRecipe(f"{where} has no field {unknown[0]!r}. Known: {', '.join(sorted(hints))}.")
    return cls(**{name: _coerce(hints[name], value, f"{where}.{name}") for name, value in data.items()})


def _coerce(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint` says; the kinds of type that our options use, no more."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, where)
    if origin is Literal and value in options:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in options:
            return None
        return _coerce(next(option for option in options if option is not type(None)), value, where)
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = options[:1] * len(value) if options[-1] is Ellipsis else options
        if len(inner) == len(value):
            return tuple(
                _coerce(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(inner, value, strict=True))
            )
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    expected = " or ".join(map(repr, options)) if origin is Literal else getattr(hint, "__name__", str(hint))
    raise BadRecipe(f"{where} should be {expected}, not {value!r}.")


def _digest(path: Path | None) -> str:
    """Hash of a file, or of every file below a folder with its name; empty for no path."""
    if path is None:
        return ""
    if not path.exists():
        raise MotionloomError(f"{path} does not exist.")
    digest = hashlib.blake2b(digest_size=16)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        name = file.relative_to(path).as_posix() if path.is_dir() else ""
        digest.update(f"{name}\0{file.stat().st_size}\0".encode(errors="surrogateescape"))
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
