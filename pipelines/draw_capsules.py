"""Render frames of capsules off screen with MuJoCo: a program of its own, since the way to the graphics card is chosen once in a
process and may take the process down.

    MUJOCO_GL=egl python draw_capsules.py SCENE.npz PIXELS.npy
"""

# MuJoCo's package tells a type checker nothing of its classes.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import sys

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

STAGE = """
<mujoco>
  <statistic extent="3" center="0 0 1"/>
  <visual>
    <global offwidth="{width}" offheight="{height}" fovy="28"/>
    <quality offsamples="4" shadowsize="2048"/>
    <headlight ambient=".5 .5 .5" diffuse=".35 .35 .35" specular="0 0 0"/>
  </visual>
  <asset>
    <texture type="skybox" builtin="flat" rgb1="1 1 1" rgb2="1 1 1" width="8" height="8"/>
    <texture name="tiles" type="2d" builtin="checker" rgb1=".93 .94 .95" rgb2=".86 .88 .9" width="256" height="256"/>
    <material name="tiles" texture="tiles" texrepeat="2 2" texuniform="true"/>
  </asset>
  <worldbody>
    <light name="sun" pos="0 0 4" dir="0 0 -1" directional="true" diffuse=".4 .4 .4"/>
    <geom type="plane" size="0 0 1" material="tiles"/>
  </worldbody>
</mujoco>
"""


def draw(scene: dict[str, np.ndarray]) -> UInt8[np.ndarray, "F H W 3"]:
    """Frames of a scene: `start` and `end` (F, C, 3) [m], `radius` (C,) [m], `colour` (C, 4), `centre` (F, 3) looked at [m],
    `azimuth` [°], `size` (width, height) [px]."""
    width, height = (int(x) for x in scene["size"])
    model = mujoco.MjModel.from_xml_string(STAGE.format(width=width, height=height))
    data = mujoco.MjData(model)
    camera = mujoco.MjvCamera()
    camera.azimuth, camera.elevation, camera.distance = float(scene["azimuth"]), -12, 3.9
    frames = len(scene["start"])
    pixels = np.empty((frames, height, width, 3), np.uint8)
    with mujoco.Renderer(model, height, width) as renderer:
        for k in range(frames):
            camera.lookat[:] = scene["centre"][k]
            model.light("sun").pos[:2] = scene["centre"][k][:2]  # shadows are drawn near the light alone
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera)
            _capsules(renderer.scene, scene["start"][k], scene["end"][k], scene["radius"], scene["colour"])
            pixels[k] = renderer.render()
    return pixels


def _capsules(
    scene: mujoco.MjvScene,
    start: Float[np.ndarray, "C 3"],
    end: Float[np.ndarray, "C 3"],
    radius: Float[np.ndarray, " C"],
    colour: Float[np.ndarray, "C 4"],
) -> None:
    kind = mujoco.mjtGeom.mjGEOM_CAPSULE
    for a, b, width, rgba in zip(start, end, radius, colour, strict=True):
        shape = scene.geoms[scene.ngeom]
        mujoco.mjv_initGeom(shape, kind, np.zeros(3), np.zeros(3), np.eye(3).ravel(), rgba.astype(np.float32))
        mujoco.mjv_connector(shape, kind, width, a, b + 1e-6)
        shape.category = mujoco.mjtCatBit.mjCAT_DYNAMIC  # decoration would cast no shadow
        scene.ngeom += 1


if __name__ == "__main__":
    with np.load(sys.argv[1], allow_pickle=False) as given:
        np.save(sys.argv[2], draw(dict(given)), allow_pickle=False)
