"""The G1 as MuJoCo moves it: our model, a floor, motors with PD controllers, feet that touch at few points."""

# MuJoCo's package tells a type checker nothing of its classes.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from corpus.errors import MotionloomError
from corpus.g1 import G1, SIDES
from deploy.contract import Gains


@dataclass(frozen=True)
class Physics:
    """How finely, and with what shapes, the world is simulated."""

    timestep_s: float = 0.005
    """Of MuJoCo; shorter is slower and stiffer in contact."""
    substeps: int = 4
    """Physics steps in a control period."""
    feet: str = "corners"
    """"corners": Unitree's own four small spheres a sole; "capsules": seven, twice as slow."""
    self_collision: bool = True
    """Do the robot's own parts stop each other?"""
    friction: float = 1.0
    """Of the floor and all of the robot."""
    iterations: int = 10
    """Newton steps of the contact solver at most."""
    linesearch_iterations: int = 20

    @property
    def control_period_s(self) -> float:
        return self.timestep_s * self.substeps


# Corners of a sole in the frame of the ankle's roll link, and their radius [m]: Unitree's MJCF (BSD-3, see NOTICE).
SOLE_CORNERS = ((-0.05, 0.025), (-0.05, -0.025), (0.12, 0.03), (0.12, -0.03))
CORNER_HEIGHT, CORNER_RADIUS = -0.03, 0.005
FEET = ("corners", "capsules")


def build_model(gains: Gains, physics: Physics = Physics()) -> Any:
    """An `mujoco.MjModel` whose controls are joint targets [rad], in the order of `corpus.g1.G1.joint_names`."""
    import mujoco

    if physics.feet not in FEET:
        raise MotionloomError(f"No feet {physics.feet!r}. Known: {', '.join(FEET)}.")
    spec = mujoco.MjSpec.from_file(str(G1.mjcf))
    _motors(spec, gains)
    if physics.feet == "corners":
        _corner_feet(spec)
    for geom in spec.geoms:
        geom.friction[0] = physics.friction
        if not physics.self_collision:
            geom.contype, geom.conaffinity = 0, 1
    floor = spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
    floor.friction[0] = physics.friction
    option = spec.option
    option.timestep, option.integrator = physics.timestep_s, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.iterations, option.ls_iterations = physics.iterations, physics.linesearch_iterations
    # A simulation that has blown up should be seen to have: MuJoCo would put the robot back upright at the origin.
    option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    return spec.compile()


def _motors(spec: Any, gains: Gains) -> None:
    import mujoco

    for i, name in enumerate(G1.joint_names):
        spec.joint(name).armature = gains.armature[i]
        motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.set_to_position(kp=gains.kp[i], kv=gains.kd[i])
        motor.forcelimited, motor.forcerange = True, [-gains.effort[i], gains.effort[i]]


def _corner_feet(spec: Any) -> None:
    import mujoco

    for geom in [geom for geom in spec.geoms if "_foot" in geom.name]:
        spec.delete(geom)
    for side in SIDES:
        foot = spec.body(f"{side}_ankle_roll_link")
        for i, (x, y) in enumerate(SOLE_CORNERS):
            foot.add_geom(
                name=f"{side}_foot{i + 1}_collision",
                type=mujoco.mjtGeom.mjGEOM_SPHERE,
                size=[CORNER_RADIUS, 0, 0],
                pos=[x, y, CORNER_HEIGHT],
                mass=0,
            )
