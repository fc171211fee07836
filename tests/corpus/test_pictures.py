"""The pictures show the robot to scale, near over far, and hide where in the world it stood."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from corpus import rotations
from corpus.pictures import draw_poses, pick_frames

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def standing(g1) -> np.ndarray:
    """Upright at joint angle zero, both soles on z = 0."""
    qpos = np.zeros((1, 36))
    qpos[0, 2], qpos[0, 3] = 0.793, 1.0
    return qpos


def lines_of(svg: str) -> list[dict[str, str]]:
    poses = ElementTree.fromstring(svg).findall(f"{SVG}g")
    return [line.attrib for pose in poses for line in pose.findall(f"{SVG}line")]


def lowest(svg: str) -> float:
    """Lowest reach of any fill stroke, in centimetres above the ground line."""
    fills = [line for line in lines_of(svg)[1::2] if line.get("class") != "contact"]
    return min(-max(float(f["y1"]), float(f["y2"])) - float(f["stroke-width"]) / 2 for f in fills)


def test_a_standing_robot_stands_on_the_ground_line(g1, standing):
    soles = min(points[:, 2].min() for _, points in g1.ground_points.values())
    from corpus.robot import forward_kinematics

    position, _ = forward_kinematics(g1, standing)
    sole_height = position[0, g1.body("left_ankle_roll_link"), 2] + soles
    assert lowest(draw_poses(g1, standing)) == pytest.approx(100 * sole_height, abs=0.2)


def test_ten_centimetres_up_are_ten_centimetres_in_the_picture(g1, standing):
    raised = standing + np.eye(36)[2] * 0.1
    assert lowest(draw_poses(g1, raised)) - lowest(draw_poses(g1, standing)) == pytest.approx(10, abs=0.11)


def test_the_picture_does_not_hang_on_place_and_heading(g1, standing):
    bent = np.repeat(standing, 2, 0)
    bent[1, 7:] = np.random.default_rng(1).uniform(-0.3, 0.3, 29)
    turn = rotations.from_rotation_vector(np.array([0.0, 0.0, 2.1]))
    moved = bent.copy()
    moved[:, :3] = rotations.rotate(turn, bent[:, :3]) + np.array([5.0, -3.0, 0.0])
    moved[:, 3:7] = rotations.multiply(np.tile(turn, (2, 1)), bent[:, 3:7])
    first, second = (
        np.array([[float(line[k]) for k in ("x1", "y1", "x2", "y2")] for line in lines_of(draw_poses(g1, qpos))])
        for qpos in (bent, moved)
    )
    np.testing.assert_allclose(first, second, atol=0.11)


def test_what_is_nearer_is_drawn_later(g1, standing):
    """Seen from its right, the robot's right arm lies over its left one."""
    colours = [line["stroke"] for line in lines_of(draw_poses(g1, standing))[1::2]]
    orange = [i for i, c in enumerate(colours) if int(c[1:3], 16) > int(c[5:7], 16) + 30]
    blue = [i for i, c in enumerate(colours) if int(c[5:7], 16) > int(c[1:3], 16) + 30]
    assert np.mean(orange) > np.mean(blue)
    assert orange[-1] == len(colours) - 1


def test_contacts_are_marked_only_where_the_foot_touches(g1, standing):
    svg = draw_poses(g1, standing, contact=np.array([[1, 0, 1, 1]], np.uint8))
    assert sum(line.get("class") == "contact" for line in lines_of(svg)) == 3
    assert 'class="contact"' not in draw_poses(g1, standing, contact=np.zeros((1, 4), np.uint8))


def test_a_lying_robot_stays_inside_the_picture(g1, standing):
    lying = standing.copy()
    lying[0, 2] = 0.1
    lying[0, 3:7] = rotations.from_rotation_vector(np.array([0.0, -np.pi / 2, 0.0]))
    svg = draw_poses(g1, lying)
    _, _, width, _ = (float(v) for v in ElementTree.fromstring(svg).attrib["viewBox"].split())
    xs = [float(line[k]) for line in lines_of(svg) for k in ("x1", "x2")]
    assert max(xs) <= width / 2 and min(xs) >= -width / 2


def test_a_picture_needs_no_network_and_escapes_its_title(g1, standing):
    svg = draw_poses(g1, standing, title="<script>&")
    assert "&lt;script&gt;&amp;" in svg
    assert not re.search(r"(href|url\(|src=)", svg)


def test_a_wrong_width_is_told(g1):
    with pytest.raises(ValueError, match="36"):
        draw_poses(g1, np.zeros((2, 30)))


def test_frames_are_picked_inside_and_spread():
    assert pick_frames(100, 4) == [12, 37, 62, 87]
    assert pick_frames(2, 5) == [0, 1]
    assert pick_frames(0, 5) == []
