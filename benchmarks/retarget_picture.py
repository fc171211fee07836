"""Draw a person and the robot side by side, and how still the standing feet keep, as one PNG.

MuJoCo renders all of it, plots and letters too: nothing else need be installed, but EGL must be there.
"""

# MuJoCo's package tells a type checker nothing of its classes.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Bool, Float, UInt8

WIDTH, TITLE, POSES, PLOT = 1560, 30, 330, 250
"""Size of the picture, and heights of a panel's title, poses and plots [px]."""
SLOT = 1.9
"""Room for a person and the robot at one instant [m]."""
PERSON, ROBOT = (0.62, 0.64, 0.67), (0.18, 0.44, 0.69)
PARTIES: dict[str, tuple[float, float, float]] = {"peer": (0.85, 0.45, 0.15), "ours": ROBOT}
"""Colour of each party's lines, drawn in this order."""
BONE = 0.03
"""Radius at which a person's bones are drawn [m]."""
FLOOR = 0.004
"""… and the line of the floor."""

STAGE = """
<mujoco>
  <visual>
    <global offwidth="{width}" offheight="{height}"/>
    <quality offsamples="8"/>
    <headlight ambient=".55 .55 .55" diffuse=".45 .45 .45" specular="0 0 0"/>
  </visual>
  <asset><texture type="skybox" builtin="flat" rgb1="1 1 1" rgb2="1 1 1" width="8" height="8"/></asset>
  <worldbody/>
</mujoco>
"""
"""An empty white world."""


@dataclass(frozen=True)
class Panel:
    """One clip. `height` and `speed` have a party's name as key, and NaN where a point does not stand."""

    title: str
    fps: float
    time: Float[np.ndarray, " K"]
    """When the poses are [s]."""
    person: Float[np.ndarray, "K B 2 3"]
    """Both ends of a person's bones at some instants [m]."""
    robot: Float[np.ndarray, "K C 2 3"]
    """Both ends of the axes of the robot's capsules at the same instants [m]."""
    radius: Float[np.ndarray, " C"]
    heading: float
    """Where the robot faces in the first pose, as an angle about z [rad]."""
    height: dict[str, Float[np.ndarray, "T P"]]
    """Of standing heels and toes above the floor [m]."""
    speed: dict[str, Float[np.ndarray, "T P"]]
    """… along the floor [m/s]."""


def draw(panels: Sequence[Panel], path: Path) -> Path:
    """Write one PNG with the panels below each other."""
    from mujoco.egl import GLContext

    size = WIDTH, (TITLE + POSES + PLOT) * len(panels)
    context = GLContext(*size)
    context.make_current()
    try:
        stage = mujoco.MjModel.from_xml_string(STAGE.format(width=size[0], height=size[1]))
        drawer = mujoco.MjrContext(stage, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, drawer)
        mujoco.mjr_rectangle(mujoco.MjrRect(0, 0, *size), 1, 1, 1, 1)
        for number, panel in enumerate(reversed(panels)):
            _draw_panel(panel, number * (TITLE + POSES + PLOT), stage, drawer)
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, mujoco.MjrRect(0, 0, *size), drawer)
    finally:
        context.free()
    return _write_png(pixels[::-1], path)


def _draw_panel(panel: Panel, bottom: int, stage: mujoco.MjModel, drawer: mujoco.MjrContext) -> None:
    half = WIDTH // 2
    height = {who: 1000 * values for who, values in panel.height.items()}
    speed = {who: 1000 * values for who, values in panel.speed.items()}
    _plot(height, panel.fps, "height of standing heels and toes [mm]", (0, bottom, half, PLOT), drawer)
    _plot(speed, panel.fps, "their speed along the floor [mm/s]", (half, bottom, half, PLOT), drawer)
    _poses(panel, mujoco.MjrRect(0, bottom + PLOT, WIDTH, POSES), stage, drawer)
    _write(panel.title, mujoco.MjrRect(0, bottom + PLOT + POSES, WIDTH, TITLE), drawer)


def _poses(panel: Panel, place: mujoco.MjrRect, stage: mujoco.MjModel, drawer: mujoco.MjrContext) -> None:
    """Person and robot in pairs from left to right, seen from the right of where they face, without perspective."""
    data, scene = mujoco.MjData(stage), mujoco.MjvScene(stage, 20_000)
    mujoco.mj_forward(stage, data)
    camera = mujoco.MjvCamera()
    camera.azimuth, camera.elevation, camera.orthographic, camera.distance = 90, 0, 1, 5
    count = len(panel.person)
    camera.lookat[:] = count * SLOT / 2, 0, 0.84
    stage.vis.global_.fovy = count * SLOT * place.height / place.width  # without perspective: metres from top to bottom
    mujoco.mjv_updateScene(stage, data, mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL, scene)
    turn = -np.radians(35) - panel.heading
    level = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    floor = np.array([[[0.0, 0.0, -FLOOR], [count * SLOT, 0.0, -FLOOR]]])
    _capsules(scene, floor, np.array([FLOOR]), PERSON)
    for k in range(count):
        for ends, share, radius, colour in (
            (panel.person[k], 0.27, np.full(len(panel.person[k]), BONE), PERSON),
            (panel.robot[k], 0.72, panel.radius, ROBOT),
        ):
            ends = ends.copy()
            ends[..., :2] = (ends[..., :2] - ends[..., :2].mean((0, 1))) @ level.T
            ends[..., 0] += (k + share) * SLOT
            _capsules(scene, ends, radius, colour)
    mujoco.mjr_render(place, scene, drawer)
    for k, time in enumerate(panel.time):
        middle = int((k + 0.5) * WIDTH / count)
        _write(f"{time:.1f} s", mujoco.MjrRect(middle - 30, place.bottom + 6, 60, 20), drawer)


def _capsules(
    scene: mujoco.MjvScene, ends: Float[np.ndarray, "C 2 3"], radius: Float[np.ndarray, " C"], colour: tuple
) -> None:
    for (start, end), width in zip(ends, radius, strict=True):
        shape = scene.geoms[scene.ngeom]
        kind = mujoco.mjtGeom.mjGEOM_CAPSULE
        colours = np.array([*colour, 1.0], np.float32)
        mujoco.mjv_initGeom(shape, kind, np.zeros(3), np.zeros(3), np.eye(3).ravel(), colours)
        mujoco.mjv_connector(shape, kind, width, start, end + 1e-6)
        scene.ngeom += 1


def _plot(
    lines: dict[str, Float[np.ndarray, "T P"]], fps: float, title: str, place: tuple, drawer: mujoco.MjrContext
) -> None:
    """A line for every stand of every point, over time."""
    figure = mujoco.MjvFigure()
    mujoco.mjv_defaultFigure(figure)
    figure.title, figure.xlabel, figure.linewidth = title, "time [s]", 2
    figure.figurergba[:] = figure.panergba[:] = 1
    figure.gridrgb[:], figure.textrgb[:], figure.xformat, figure.yformat = 0.88, 0.1, "%.0f", "%.0f"
    values = np.concatenate([party.ravel() for party in lines.values()])
    low, high, step = _axis(*np.nanquantile(values, [0.0, 0.998]))
    seconds = int(np.ceil(len(next(iter(lines.values()))) / fps))
    figure.flg_extend = 0
    figure.range[:], figure.gridsize[:] = ((0, seconds), (low, high)), (seconds + 1, round((high - low) / step) + 1)
    stands = [(who, *stand) for who, party in lines.items() for stand in _stands(party)]
    most = len(figure.linepnt)
    if len(stands) > most:
        raise ValueError(f"MuJoCo plots {most} lines at most, these are {len(stands)} stands: draw less of the clip.")
    for number, (who, first, stand) in enumerate(stands):
        points = np.stack([(first + np.arange(len(stand))) / fps, np.minimum(stand, high)], 1)
        figure.linepnt[number], figure.linergb[number] = len(points), PARTIES[who]
        figure.linedata[number, : points.size] = points.ravel()
    mujoco.mjr_figure(mujoco.MjrRect(*place), figure, drawer)


def _axis(low: float, high: float) -> tuple[float, float, float]:
    """The ends of an axis, zero within, and the step between its ticks; MuJoCo itself rounds ends to one digit."""
    low = min(low, 0.0)
    digit = 10 ** np.floor(np.log10(max(high - low, 1e-9)))
    low, high = digit * np.floor(low / digit), digit * np.ceil(high / digit)
    return low, high, digit if high - low > 3 * digit else digit / 2


def _stands(values: Float[np.ndarray, "T P"]) -> list[tuple[int, Float[np.ndarray, " S"]]]:
    """First frame and values of every stretch without NaN, point by point."""
    found = []
    for column in values.T:
        there: Bool[np.ndarray, " T"] = ~np.isnan(column)
        edges = np.flatnonzero(np.diff(there, prepend=False, append=False))
        found += [(start, column[start:stop]) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    return found


def _write(text: str, place: mujoco.MjrRect, drawer: mujoco.MjrContext) -> None:
    """Dark letters in the middle of a white box."""
    mujoco.mjr_label(place, mujoco.mjtFont.mjFONT_NORMAL, text, 1, 1, 1, 1, 0.1, 0.1, 0.1, drawer)


def _write_png(pixels: UInt8[np.ndarray, "H W 3"], path: Path) -> Path:
    """Eight bits a channel, from the top row down."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], 1)  # no filter
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    half_made = path.with_name(f".{path.name}.part")
    half_made.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + chunk(b"IEND", b"")
    )
    half_made.replace(path)
    return path
