"""Reading an unknown skeleton as a human body: by a file the user writes, or by joint names in common use.

A skeleton file is TOML or JSON; everything but `roles` may be left out:

    licence = "CC BY 4.0"             # of every recording read with this file
    subject = "(P\\d+)_"               # regular expression on the file's path: its first group is who moved
    unit = "cm"                       # m, cm, inch or mm; else found by the leg's length, which is 0.5 to 1.2 m
    scale = 0.01                      # or metres per unit of the file, instead of `unit`
    up = "y"                          # y or z; else y unless the person plainly stands along z
    rest = "zero"                     # the pose at zero angles is a standing one; or a frame's number, from 0

    [roles]                           # role of `corpus.skeleton.ROLES` = joint; neck, head and toes may be left out
    pelvis = "Hips"                   # what both legs hang on
    chest = "Spine2"                  # what both arms hang on
    left_hip = "LeftUpLeg"            # upper end of the thigh
    left_knee = "LeftLeg"
    left_ankle = "LeftFoot"
    left_toe = "LeftToeBase"          # else the foot's end site
    left_shoulder = "LeftArm"         # upper end of the upper arm, not the collar bone
    left_elbow = "LeftForeArm"
    left_wrist = "LeftHand"           # and the same for the right side

The rest pose stands upright with straight legs; the arms may hang, stand off or be stretched out.
"""

from __future__ import annotations

import functools
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from corpus import rotations
from corpus.errors import MotionloomError, Rejected
from corpus.skeleton import ROLES

UNITS = {"m": 1.0, "cm": 0.01, "inch": 0.0254, "mm": 0.001}
"""Metres per unit."""

SIDES = ("left", "right")
OPTIONAL = ("neck", "head", "left_toe", "right_toe")
REQUIRED = tuple(role for role in ROLES if role not in OPTIONAL)

LEGS = (
    ("upleg", "leg", "foot"), ("hip", "knee", "ankle"), ("leg", "shin", "foot"), ("thigh", "calf", "foot"),
    ("thigh", "shin", "foot"), ("upperleg", "lowerleg", "foot"), ("upleg", "lowleg", "foot"), ("femur", "tibia", "foot"),
)  # fmt: skip
"""Hip, knee and ankle as they are called: Mixamo, Noitom, OptiTrack, CMU · Xsens, SMPL · SOMA · Biped, Unreal · …"""

ARMS = (
    ("arm", "forearm", "hand"), ("shoulder", "elbow", "wrist"), ("upperarm", "lowerarm", "hand"),
    ("upperarm", "forearm", "hand"), ("uparm", "lowarm", "hand"), ("uarm", "farm", "hand"), ("shldr", "forearm", "hand"),
    ("shoulder", "elbow", "hand"), ("humerus", "radius", "wrist"), ("humerus", "radius", "hand"),
)  # fmt: skip
"""Shoulder, elbow and wrist as they are called."""

TOES = ("toebase", "toes", "toe", "toe0", "ball", "foot")
NECKS, HEADS = ("neck", "neck1", "neck01", "lowerneck"), ("head",)
PREFIXES = ("mixamorig", "bip001", "bip01", "character1", "ccbase")


@dataclass(frozen=True)
class SkeletonFile:
    """What the user says about a skeleton."""

    roles: dict[str, str]
    licence: str = ""
    subject: str = ""
    unit: str = ""
    scale: float = 0.0
    up: str = ""
    rest: int | None = None
    """Frame of the rest pose; None: the pose at zero angles."""

    def subject_of(self, path: str) -> str:
        match = re.search(self.subject, path) if self.subject else None
        return "" if match is None else next((group for group in match.groups() if group), match[0])


def read_skeleton_file(path: Path) -> SkeletonFile:
    """The user's file; a mistake in it is an error that says what would have been right."""
    try:
        return _parse(path.read_text(encoding="utf-8"), path)
    except OSError as error:
        raise MotionloomError(f"{path}: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise MotionloomError(f"{path}: no UTF-8 text ({error.reason}).") from None


@lru_cache(16)  # asked for with every clip
def _parse(text: str, path: Path) -> SkeletonFile:
    kind, read = ("JSON", json.loads) if path.suffix.lower() == ".json" else ("TOML", tomllib.loads)
    try:
        content = read(text)
    except (ValueError, RecursionError) as error:
        raise MotionloomError(f"{path}: no {kind}: {error}.") from None
    if mistake := _mistake(content):
        raise MotionloomError(f"{path}: {mistake}.")
    rest = content.get("rest", "zero")
    fields = {name: content[name] for name in ("roles", "licence", "subject", "unit", "up") if name in content}
    return SkeletonFile(**fields, scale=float(content.get("scale", 0.0)), rest=None if rest == "zero" else rest)


def _mistake(content: Any) -> str:
    """What is wrong with a skeleton file, or nothing."""
    known = ("roles", "licence", "subject", "unit", "scale", "up", "rest")
    roles = content.get("roles") if isinstance(content, dict) else None
    if not isinstance(roles, dict) or not all(isinstance(joint, str) for joint in roles.values()):
        return "expected a table [roles] of role = joint name"
    if unknown := [name for name in content if name not in known]:
        return f"unknown {', '.join(unknown)}; known: {', '.join(known)}"
    if unknown := [role for role in roles if role not in ROLES]:
        return f"unknown roles {', '.join(unknown)}; known: {', '.join(ROLES)}"
    if missing := [role for role in REQUIRED if role not in roles]:
        return f"roles are missing: {', '.join(missing)}"
    if len(set(roles.values())) < len(roles):
        return "two roles have the same joint"
    rest, scale = content.get("rest", "zero"), content.get("scale", 1.0)
    fits = {
        f"unit is one of {', '.join(UNITS)}": content.get("unit", "m") in UNITS,
        "scale is a positive number, instead of unit": _is_number(scale)
        and scale > 0
        and not {"unit", "scale"} <= set(content),
        "up is y or z": content.get("up", "y") in ("y", "z"),
        'rest is "zero" or a frame, from 0': rest == "zero" or (type(rest) is int and rest >= 0),
        "licence and subject are texts": all(isinstance(content.get(name, ""), str) for name in ("licence", "subject")),
    }
    return next((text for text, holds in fits.items() if not holds), "") or _pattern_mistake(content.get("subject", ""))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _pattern_mistake(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        return f"subject is no regular expression ({error})"
    return ""


# --- joints by their names


def roles_by_name(names: Sequence[str], parents: Sequence[int]) -> dict[str, str]:
    """Role → joint; pelvis and chest are what legs and arms hang on. `Rejected` where names tell no human body."""
    return dict(_roles_by_name(tuple(names), tuple(parents)))


@functools.lru_cache(64)
def _roles_by_name(names: tuple[str, ...], parents: tuple[int, ...]) -> dict[str, str]:
    plain = {_plain(name): name for name in reversed(names)}
    legs = _limbs(plain, LEGS, ("hip", "knee", "ankle"))
    arms = _limbs(plain, ARMS, ("shoulder", "elbow", "wrist"))
    roles = legs | arms
    if legs and arms:
        roles["pelvis"] = _common_parent(names, parents, legs["left_hip"], legs["right_hip"])
        roles["chest"] = _common_parent(names, parents, arms["left_shoulder"], arms["right_shoulder"])
    taken = set(roles.values())
    if not (legs and arms) or len(taken) < len(roles) or "" in taken:
        raise Rejected(
            "unknown_skeleton",
            "no human body in these joint names; write a skeleton file (see corpus.sources.bvh_skeleton) and give it by "
            f"--skeleton. Joints: {', '.join(names)[:1000]}",
        )
    for role, words in (("neck", NECKS), ("head", HEADS)):
        joint = next((plain[word] for word in words if plain.get(word, "") not in {"", *taken}), "")
        roles |= {role: joint} if joint else {}
    for side in SIDES:
        toe = next((joint for word in TOES if (joint := _sided(plain, side, word)) not in {"", *taken}), "")
        roles |= {f"{side}_toe": toe} if toe else {}
    return {role: roles[role] for role in ROLES if role in roles}


def _plain(name: str) -> str:
    """Lower case letters and digits, without name space and maker's prefix."""
    word = re.sub(r"[^a-z0-9]", "", name.rsplit(":", 1)[-1].lower())
    return next((word[len(prefix) :] for prefix in PREFIXES if word.startswith(prefix) and word != prefix), word)


def _limbs(plain: dict[str, str], families: tuple[tuple[str, ...], ...], roles: tuple[str, ...]) -> dict[str, str]:
    """The first family of names of which both sides are whole."""
    for words in families:
        found = {f"{s}_{role}": _sided(plain, s, word) for s in SIDES for role, word in zip(roles, words, strict=True)}
        if all(found.values()):
            return found
    return {}


def _sided(plain: dict[str, str], side: str, word: str) -> str:
    """LeftFoot, L_Foot, foot_l, …"""
    for form in (side + word, side[0] + word, word + side[0], word + side):
        if form in plain:
            return plain[form]
    return ""


def _common_parent(names: Sequence[str], parents: Sequence[int], a: str, b: str) -> str:
    """The nearest joint that both hang on, or nothing."""
    above_a, above_b = _ancestors(names, parents, a), _ancestors(names, parents, b)
    return next((joint for joint in above_a if joint in above_b), "")


def _ancestors(names: Sequence[str], parents: Sequence[int], joint: str) -> list[str]:
    found, index = [], parents[names.index(joint)]
    while index >= 0:
        found.append(names[index])
        index = parents[index]
    return found


# --- the rest posture


def rest_rotations(
    position: dict[str, Float[np.ndarray, " 3"]], rotation: dict[str, Float[np.ndarray, " 4"]]
) -> dict[str, Float[np.ndarray, " 4"]]:
    """World orientation by role in a T-pose facing +x, from any upright pose with the legs down (z up).

    Arms and legs that point elsewhere are swung, by the shortest turn, to where a T-pose has them.
    """
    _check_standing(position)
    left = position["left_hip"] - position["right_hip"]
    facing = np.arctan2(-left[0], left[1])
    turn = rotations.about_z(np.array(-facing))
    at = {role: rotations.rotate(turn, place) for role, place in position.items()}
    rest = {role: rotations.multiply(turn, q) for role, q in rotation.items()}
    for side, out in (("left", 1.0), ("right", -1.0)):
        down, outwards = np.array([0.0, 0.0, -1.0]), np.array([0.0, out, 0.0])
        # The hand goes with the forearm, the foot stays as it stands.
        bones = [("hip", "knee", ["hip"], down), ("knee", "ankle", ["knee"], down)]
        bones += [("shoulder", "elbow", ["shoulder"], outwards), ("elbow", "wrist", ["elbow", "wrist"], outwards)]
        for upper, lower, moved, wanted in bones:
            swing = _swing(at[f"{side}_{lower}"] - at[f"{side}_{upper}"], wanted)
            for role in moved:
                rest[f"{side}_{role}"] = rotations.multiply(swing, rest[f"{side}_{role}"])
    return rest


def _check_standing(at: dict[str, Float[np.ndarray, " 3"]]) -> None:
    """Trunk up, both legs down, hips side by side; or `Rejected`."""
    shoulders = (at["left_shoulder"] + at["right_shoulder"]) / 2
    across = at["left_hip"] - at["right_hip"]
    legs = [
        _slope(at[f"{side}_{a}"] - at[f"{side}_{b}"]) for side in SIDES for a, b in (("hip", "knee"), ("knee", "ankle"))
    ]
    trunk, level = _slope(shoulders - at["pelvis"]), abs(_slope(across))
    if trunk < 0.8 or min(legs) < 0.8 or level > 0.5:
        raise Rejected(
            "unknown_skeleton",
            "the rest pose does not stand upright on straight legs; name a frame that does: rest = NUMBER in a skeleton file",
            trunk=round(trunk, 3),
            legs=round(min(legs), 3),
            minimum=0.8,
        )


def _slope(v: Float[np.ndarray, " 3"]) -> float:
    """Sine of the angle above the horizontal; 0 for no length."""
    length = float(np.linalg.norm(v))
    return float(v[2]) / length if length > 1e-9 else 0.0


def _swing(a: Float[np.ndarray, " 3"], b: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 4"]:
    """The shortest turn that brings direction `a` to the unit vector `b`."""
    a = a / max(float(np.linalg.norm(a)), 1e-9)
    q = np.concatenate([[1 + a @ b], np.cross(a, b)])
    # Straight against each other: about the forward axis, as an arm is raised.
    return rotations.normalise(q) if q @ q > 1e-8 else np.array([0.0, 1.0, 0.0, 0.0])
