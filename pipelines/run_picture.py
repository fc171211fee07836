"""Pictures of a run: the robot and, beside it, what it was to do; moving (GIF, WebP), as a strip (PNG), or drawn as SVG with curves.

MuJoCo renders off screen. Where there is no way to do so, the SVG is drawn in the place of the others, which needs nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from corpus.durable import replace_file, save_arrays
from corpus.errors import MotionloomError
from corpus.g1 import G1
from corpus.motion import CORPUS_FPS
from corpus.pictures import draw_poses, pick_frames, shapes
from corpus.robot import forward_kinematics
from pipelines.run_pairs import Pair, followed
from trainer.plot import COLOURS, HEIGHT, WIDTH, Axis, Curve, draw_curves

MOVING, STILL, DRAWN = (".gif", ".webp"), ".png", ".svg"
GL = ("egl", "osmesa")
"""Ways to render off screen, in the order they are tried."""
RENDER_S = 300.0
"""The longest that rendering may take [s]."""
ROBOT, REFERENCE = (0.18, 0.44, 0.69, 1.0), (0.79, 0.43, 0.16, 0.55)
"""Red, green, blue and opacity."""


@dataclass(frozen=True)
class PictureOptions:
    seconds: float = 20.0
    """Of the run, at most; more make larger files [s]."""
    fps: float = 12.5
    """Of a moving picture [Hz]; rounded to what 50 Hz can be divided into."""
    poses: int = 7
    """In a strip."""
    size: tuple[int, int] = (400, 320)
    """Of each frame [px]."""
    apart: float = 1.0
    """How far beside the robot its reference stands [m]."""


def draw_run(
    path: Path,
    out: Path,
    *,
    truth: Path | None = None,
    stretch: str = "",
    options: PictureOptions = PictureOptions(),
) -> tuple[Path, str]:
    """Write a picture of a stretch of a run (its longest, unless named) to `out`, whose suffix says of what kind; gives the file
    written and, in one line, how it was made. Where nothing renders here, the file is an SVG of the same name."""
    kind = out.suffix.lower()
    if kind not in (*MOVING, STILL, DRAWN):
        raise MotionloomError(f"No picture {out.name!r}. Known suffixes: {', '.join((*MOVING, STILL, DRAWN))}.")
    pair = _chosen(path, truth, stretch)
    if kind != DRAWN:
        _pillow()
        count = min(pair.robot.frame_count, max(2, round(options.seconds * CORPUS_FPS)))
        step = max(1, round(CORPUS_FPS / options.fps))
        frames = pick_frames(count, options.poses) if kind == STILL else list(range(0, count, step))
        pixels, how = _render(pair, frames, options)
        if pixels is not None:
            _save(pixels, [frame / CORPUS_FPS for frame in frames], out, 1e3 * step / CORPUS_FPS)
            return out, how
        out = out.with_suffix(DRAWN)
        how = f"nothing renders off screen here ({how}): drawn as {out.name} instead"
    else:
        how = "drawn as SVG"
    text = _svg(pair, options)
    replace_file(out, lambda made: made.write_text(text, encoding="utf-8"))
    return out, how


def _chosen(path: Path, truth: Path | None, name: str) -> Pair:
    pairs = followed(path, truth)[1]
    if not pairs:
        raise MotionloomError(f"{path}: nothing to draw, the robot never tracked.")
    if not name:
        return max(pairs, key=lambda pair: pair.robot.frame_count)
    names = [pair.name for pair in pairs]
    if name not in names:
        raise MotionloomError(f"{path} has no stretch {name!r}. Known: {', '.join(names)}.")
    return pairs[names.index(name)]


def _render(pair: Pair, frames: list[int], options: PictureOptions) -> tuple[UInt8[np.ndarray, "F H W 3"] | None, str]:
    """Pixels, and by what they came; or None, and why not."""
    with tempfile.TemporaryDirectory() as folder:
        scene, pixels = Path(folder) / "scene.npz", Path(folder) / "pixels.npy"
        save_arrays(scene, _scene(pair, frames, options))
        program = [sys.executable, "-P", str(Path(__file__).with_name("draw_capsules.py")), str(scene), str(pixels)]
        said = []
        for way in GL:
            try:
                subprocess.run(
                    program, env={**os.environ, "MUJOCO_GL": way}, check=True, capture_output=True, timeout=RENDER_S
                )
                return np.load(pixels, allow_pickle=False), f"rendered by MuJoCo with {way}"
            except subprocess.TimeoutExpired:
                said.append(f"{way}: took longer than {RENDER_S:.0f} s")
            except (subprocess.CalledProcessError, OSError, ValueError) as error:
                lines = (getattr(error, "stderr", b"") or b"").decode(errors="replace").strip().splitlines()
                said.append(f"{way}: {re.sub(r'^[A-Za-z.]*Error: ', '', lines[-1])[:80] if lines else error}")
        return None, "; ".join(said)


def _scene(pair: Pair, frames: list[int], options: PictureOptions) -> dict[str, np.ndarray]:
    """What `draw_capsules` draws: the robot, and its reference to its side."""
    x, y = _facing(pair)
    parties = [(pair.robot, ROBOT, 0.0)]
    if pair.asked is not None:
        parties = [(pair.robot, ROBOT, -options.apart / 2), (pair.asked, REFERENCE, options.apart / 2)]
    parts = []
    for motion, colour, aside in parties:
        start, end, radius, _ = shapes(G1, *forward_kinematics(G1, motion.qpos[frames]))
        place = aside * np.array([-y, x, 0])
        parts.append((start + place, end + place, radius, np.tile(colour, (len(radius), 1))))
    start, end, radius, colour = (np.concatenate(column, axis) for column, axis in zip(zip(*parts, strict=True), (1, 1, 0, 0), strict=True))  # fmt: skip
    centre = np.mean([motion.root_position[frames] for motion, *_ in parties], 0) * [1, 1, 0] + [0, 0, 0.65]
    # From before and a little to the right of where they face.
    azimuth = np.degrees(np.arctan2(y, x)) + 180 + 15
    return {
        "start": start, "end": end, "radius": radius, "colour": colour, "centre": centre,
        "azimuth": np.array(azimuth), "size": np.array(options.size),
    }  # fmt: skip


def _facing(pair: Pair) -> tuple[float, float]:
    """Level direction in which the robot faces at first."""
    w, x, y, z = pair.robot.root_rotation[0]
    angle = np.arctan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))
    return float(np.cos(angle)), float(np.sin(angle))


def _save(pixels: UInt8[np.ndarray, "F H W 3"], times_s: list[float], out: Path, period_ms: float) -> None:
    from PIL import Image, ImageDraw

    images = [Image.fromarray(frame) for frame in pixels]
    for image, time in zip(images, times_s, strict=True):
        ImageDraw.Draw(image).text((8, 6), f"{time:.2f} s", fill=(40, 40, 40))
    ImageDraw.Draw(images[0]).text((8, 20), "blue: the robot, orange: its reference", fill=(40, 40, 40))
    if out.suffix.lower() == STILL:
        strip = Image.new("RGB", (sum(image.width for image in images), images[0].height))
        for i, image in enumerate(images):
            strip.paste(image, (i * image.width, 0))
        replace_file(out, lambda made: strip.save(made, "PNG"))
        return
    form = out.suffix[1:].upper()
    options = {"save_all": True, "append_images": images[1:], "duration": round(period_ms), "loop": 0}
    replace_file(out, lambda made: images[0].save(made, form, **options))


def _svg(pair: Pair, options: PictureOptions) -> str:
    """Poses of both, one row above the other, and how far apart they were."""
    frames = pick_frames(pair.robot.frame_count, options.poses)
    rows = [draw_poses(G1, pair.robot.qpos[frames], title="The robot")]
    time = np.arange(pair.robot.frame_count) / CORPUS_FPS
    heights = [Curve("robot", time, pair.robot.root_position[:, 2], COLOURS[0])]
    if pair.asked is not None:
        rows.append(draw_poses(G1, pair.asked.qpos[frames], title="Its reference"))
        heights.append(Curve("reference", time, pair.asked.root_position[:, 2], COLOURS[1], dashed=True))
        error = abs(pair.robot.joint_position - pair.asked.joint_position).mean(1)
        curve = Curve("joints", time, error, COLOURS[4])
        rows.append(draw_curves([curve], Axis("time [s]"), Axis("[rad]"), title="Mean error of the joints"))
    rows.insert(len(rows) - (pair.asked is not None), draw_curves(heights, Axis("time [s]"), Axis("[m]"), title="Height of the pelvis"))  # fmt: skip
    return _stacked(rows)


def _stacked(pictures: list[str]) -> str:
    """One SVG of several, below each other."""
    parts, top, widest = [], 0.0, float(WIDTH)
    for picture in pictures:
        width, height = (_size(picture, name) for name in ("width", "height"))
        parts.append(picture.replace("<svg ", f'<svg y="{top:g}" ', 1))
        top, widest = top + height + 12, max(widest, width)
    body = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{widest:g}" height="{max(top, HEIGHT):g}">'
        f'<rect width="100%" height="100%" fill="#fff"/>{body}</svg>\n'
    )


def _size(picture: str, name: str) -> float:
    found = re.search(rf'<svg [^>]*\b{name}="([\d.]+)"', picture)
    assert found, "every SVG of ours says its size"
    return float(found[1])


def _pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise MotionloomError(
            "GIF, WebP and PNG need Pillow: pip install 'motionloom[view]'; an .svg needs nothing."
        ) from None
