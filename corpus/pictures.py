"""Pictures of the robot as SVG: its collision capsules from the side, drawn back to front over the line of the ground.

A capsule seen in parallel projection is a line with round ends, so nothing is rendered and nothing need be installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float, UInt8

from corpus import rotations
from corpus.robot import Robot, forward_kinematics

VIEW_ANGLE = np.radians(-55.0)
"""Where the viewer stands, counted from the first pose's heading towards its left [rad]: walking goes to the right."""

COLOURS = {"left": (47, 111, 176), "right": (201, 110, 42), "": (120, 128, 138)}
"""Red, green, blue of the robot's left side, its right side and its trunk."""

CONTACT_COLOUR = "#1a7f4b"
BONE_RADIUS = 0.018
"""Thickness at which the links between two joints are drawn, so that the shapes hang together [m]."""


def draw_poses(
    robot: Robot,
    qpos: Float[np.ndarray, "K Q"],
    *,
    contact: UInt8[np.ndarray, "K 4"] | None = None,
    height_px: int = 180,
    title: str = "",
) -> str:
    """One SVG with the poses side by side, seen from one fixed direction, on one ground line at z = 0.

    Where `contact` is given, the ends of the feet that touch the ground are marked on it.
    """
    if qpos.ndim != 2 or qpos.shape[1] != 7 + robot.joint_count or len(qpos) == 0:
        raise ValueError(f"Poses are (K, {7 + robot.joint_count}) with K ≥ 1, got {qpos.shape}.")
    position, rotation = forward_kinematics(robot, qpos)
    view = _View.of_heading(position[0, 0], rotation[0, 0])
    shapes = [_strokes(robot, position[k], rotation[k], view) for k in range(len(qpos))]
    pitch = max(0.75, max(2 * shape.half_width for shape in shapes) + 0.1)
    top = max(1.35, max(shape.top for shape in shapes) + 0.05)
    bottom = min(-0.08, min(shape.bottom for shape in shapes) - 0.03)
    parts = []
    for k, shape in enumerate(shapes):
        marks = [] if contact is None else _marks(_contact_points(robot, position[k], rotation[k], view), contact[k])
        place = f"translate({_cm((k + 0.5) * pitch)} 0)"
        parts.append(f'<g class="pose" transform="{place}">{"".join(shape.svg() + marks)}</g>')
    return _frame("".join(parts), len(qpos) * pitch, top, bottom, height_px, title)


def pick_frames(frame_count: int, count: int) -> list[int]:
    """`count` frames spread evenly over a motion, the ends left out."""
    count = min(count, frame_count)
    return [int((k + 0.5) * frame_count / count) for k in range(count)]


def shapes(
    robot: Robot, position: Float[np.ndarray, "... B 3"], rotation: Float[np.ndarray, "... B 4"]
) -> tuple[Float[np.ndarray, "... C 3"], Float[np.ndarray, "... C 3"], Float[np.ndarray, " C"], list[int]]:
    """Both ends, radius [m] and body of all capsules, and of a thin link from each body to its parent."""
    body = [capsule.body for capsule in robot.capsules]
    child = list(range(1, robot.body_count))
    parent = [robot.parents[b] for b in child]
    local = np.stack([np.stack([capsule.start, capsule.end]) for capsule in robot.capsules], 1)
    start, end = (position[..., body, :] + rotations.rotate(rotation[..., body, :], side) for side in local)
    radius = np.concatenate([[capsule.radius for capsule in robot.capsules], np.full(len(child), BONE_RADIUS)])
    start = np.concatenate([start, position[..., parent, :]], -2)
    return start, np.concatenate([end, position[..., child, :]], -2), radius, [*body, *child]


@dataclass(frozen=True)
class _View:
    """Parallel projection along a level direction."""

    right: Float[np.ndarray, " 3"]
    """World direction that points right in the picture."""
    towards_viewer: Float[np.ndarray, " 3"]

    @staticmethod
    def of_heading(origin: Float[np.ndarray, " 3"], rotation: Float[np.ndarray, " 4"]) -> _View:
        """Three-quarter view from the right of where the body faces; lying down, of where its head points."""
        forward = rotations.rotate(rotation, np.array([1.0, 0.0, 0.0]))
        if np.hypot(forward[0], forward[1]) < 0.5:
            forward = rotations.rotate(rotation, np.array([0.0, 0.0, 1.0]))
        angle = np.arctan2(forward[1], forward[0]) + VIEW_ANGLE
        return _View(np.array([-np.sin(angle), np.cos(angle), 0.0]), np.array([np.cos(angle), np.sin(angle), 0.0]))

    def project(self, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
        """Right, up and towards the viewer [m]."""
        return np.stack([points @ self.right, points[:, 2], points @ self.towards_viewer], 1)


@dataclass(frozen=True)
class _Strokes:
    """Round-ended lines in picture coordinates, the pelvis at x = 0; the nearest is last."""

    start: Float[np.ndarray, "C 3"]
    end: Float[np.ndarray, "C 3"]
    radius: Float[np.ndarray, " C"]
    colour: list[tuple[int, int, int]]

    @property
    def half_width(self) -> float:
        return float((np.maximum(abs(self.start[:, 0]), abs(self.end[:, 0])) + self.radius).max())

    @property
    def top(self) -> float:
        return float((np.maximum(self.start[:, 1], self.end[:, 1]) + self.radius).max())

    @property
    def bottom(self) -> float:
        return float((np.minimum(self.start[:, 1], self.end[:, 1]) - self.radius).min())

    def svg(self) -> list[str]:
        """Each stroke over a darker, wider one that makes its outline."""
        depth = (self.start[:, 2] + self.end[:, 2]) / 2
        nearness = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9)
        lines = []
        for a, b, radius, colour, near in zip(self.start, self.end, self.radius, self.colour, nearness, strict=True):
            # A line of no length has no round ends in some viewers.
            x2 = b[0] if np.abs(a - b).max() > 1e-3 else b[0] + 1e-3
            ends = f'x1="{_cm(a[0])}" y1="{_cm(-a[1])}" x2="{_cm(x2)}" y2="{_cm(-b[1])}"'
            outline, fill = _shade(colour, 0.55 * near, 0.55), _shade(colour, near, 1.0)
            lines.append(f'<line {ends} stroke="{outline}" stroke-width="{_cm(2 * radius + 0.009)}"/>')
            lines.append(f'<line {ends} stroke="{fill}" stroke-width="{_cm(2 * radius)}"/>')
        return lines


def _strokes(
    robot: Robot, position: Float[np.ndarray, "B 3"], rotation: Float[np.ndarray, "B 4"], view: _View
) -> _Strokes:
    """All capsules of one pose, and a thin link from each body to its parent."""
    start, end, radius, body = shapes(robot, position, rotation)
    start, end = view.project(start), view.project(end)
    centre = np.array([view.project(position[:1])[0, 0], 0.0, 0.0])
    order = np.argsort((start[:, 2] + end[:, 2]) / 2, kind="stable")
    colour = [COLOURS[_side(robot.body_names[b])] for b in body]
    return _Strokes(start[order] - centre, end[order] - centre, radius[order], [colour[i] for i in order])


def _contact_points(
    robot: Robot, position: Float[np.ndarray, "B 3"], rotation: Float[np.ndarray, "B 4"], view: _View
) -> Float[np.ndarray, "4 2"]:
    """Middle of left heel, left toe, right heel and right toe in the picture."""
    centre = view.project(position[:1])[0, 0]
    points = []
    for name in ("left_heel", "left_toe", "right_heel", "right_toe"):
        link, local = robot.ground_points[name]
        body = robot.body(link)
        points.append(position[body] + rotations.rotate(rotation[body], local.mean(0)))
    return view.project(np.array(points))[:, :2] - [centre, 0.0]


def _marks(spots: Float[np.ndarray, "4 2"], contact: UInt8[np.ndarray, " 4"]) -> list[str]:
    """Short bars on the ground below what touches it."""
    look = f'stroke="{CONTACT_COLOUR}" stroke-width="2.5"'
    return [
        f'<line class="contact" x1="{_cm(x - 0.04)}" y1="2.5" x2="{_cm(x + 0.04)}" y2="2.5" {look}/>'
        for (x, _), touches in zip(spots, contact, strict=True)
        if touches
    ]


def _frame(body: str, width: float, top: float, bottom: float, height_px: int, title: str) -> str:
    """The picture around the poses: ground line, size, title for those who cannot see it."""
    width_px = round(height_px * width / (top - bottom))
    ground = f'<line class="ground" x1="0" y1="0" x2="{_cm(width)}" y2="0" stroke="#9aa3ad" stroke-width="0.8"/>'
    box = f"0 {_cm(-top)} {_cm(width)} {_cm(top - bottom)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{width_px}" height="{height_px}" role="img" '
        f'fill="none" stroke-linecap="round"><title>{escape(title or "Poses of the robot")}</title>'
        f"{ground}{body}</svg>"
    )


def _side(body_name: str) -> str:
    return next((side for side in ("left", "right") if body_name.startswith(side)), "")


def _shade(colour: tuple[int, int, int], near: float, light: float) -> str:
    """Far things fade towards white; `light` < 1 darkens for the outline."""
    fade = 0.45 * (1 - near) if light == 1.0 else 0.2 * (1 - near)
    return "#" + "".join(f"{round((c + (255 - c) * fade) * light):02x}" for c in colour)


def _cm(metres: float) -> str:
    """Picture units are centimetres, to the millimetre."""
    return f"{100 * metres:.1f}"
