from __future__ import annotations

import argparse
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from made_runs import squat, write_run

from corpus.errors import MotionloomError
from pipelines import run_picture
from pipelines.deploy_commands import picture as command
from pipelines.run_picture import PictureOptions, draw_run

MOTION = squat(1.2)
SMALL = PictureOptions(seconds=0.2, poses=2, size=(96, 64))


@pytest.fixture
def run_file(tmp_path):
    return write_run(tmp_path / "a.g1run", MOTION)


@pytest.fixture
def no_rendering(monkeypatch):
    monkeypatch.setattr(run_picture, "GL", ("none", "nowhere"))


def pixels_of(path) -> list[np.ndarray]:
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(image)]


@pytest.mark.parametrize(("name", "frames"), [("a.png", 1), ("a.gif", 3)])
def test_robot_and_reference_are_rendered_side_by_side(run_file, tmp_path, name, frames):
    """Where this machine renders at all: something blue on one side, something orange on the other."""
    out, how = draw_run(run_file, tmp_path / name, options=SMALL)
    if out.suffix == ".svg":
        pytest.skip(how)
    found = pixels_of(out)
    assert len(found) == frames and found[0].shape[0] == 64
    picture = found[0][:, :96]
    blue = np.flatnonzero((picture[..., 2] - picture[..., 0] > 60).any(0))
    orange = np.flatnonzero((picture[..., 0] - picture[..., 2] > 60).any(0))
    assert len(blue) and len(orange) and abs(blue.mean() - orange.mean()) > 10


def test_without_a_way_to_render_an_svg_is_drawn_and_says_so(run_file, tmp_path, no_rendering):
    out, how = draw_run(run_file, tmp_path / "a.gif", options=SMALL)
    assert out == tmp_path / "a.svg" and "nothing renders" in how and "\n" not in how
    assert not (tmp_path / "a.gif").exists()
    root = ElementTree.fromstring(out.read_text())
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["The robot", "Its reference"] and "Height of the pelvis" in out.read_text()


def test_a_longer_stretch_is_drawn_unless_one_is_named(tmp_path):
    modes = ["track"] * 15 + ["stand"] * 5 + ["track"] * 40
    path = write_run(tmp_path / "a.g1run", MOTION, modes=modes)
    drawn = [draw_run(path, tmp_path / "a.svg", stretch=name)[0].read_text() for name in ("", "track-1", "track-0")]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(MotionloomError, match="track-0, track-1"):
        draw_run(path, tmp_path / "a.svg", stretch="track-2")


def test_without_pillow_it_is_told_what_to_install(run_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MotionloomError, match="pip install"):
        draw_run(run_file, tmp_path / "a.gif")


def test_unknown_suffixes_are_refused(run_file, tmp_path):
    with pytest.raises(MotionloomError, match=r"\.gif, \.webp, \.png, \.svg"):
        draw_run(run_file, tmp_path / "a.mp4")


def test_a_run_without_tracking_is_refused(tmp_path):
    path = write_run(tmp_path / "a.g1run", MOTION, modes=["stand"] * 60)
    with pytest.raises(MotionloomError, match="never tracked"):
        draw_run(path, tmp_path / "a.svg")


def test_the_command_says_what_it_wrote(run_file, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    assert command.run(parser.parse_args([str(run_file), str(tmp_path / "b.svg")])) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'b.svg'}: drawn as SVG\n"
    with pytest.raises(MotionloomError, match="--seconds"):
        command.run(parser.parse_args([str(run_file), str(tmp_path / "b.svg"), "--seconds", "0"]))
