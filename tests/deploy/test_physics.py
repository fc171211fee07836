from __future__ import annotations

from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest

from corpus.errors import MotionloomError
from corpus.g1 import SIDES
from deploy.contract import GAINS, STANDING
from deploy.physics import CORNER_HEIGHT, CORNER_RADIUS, SOLE_CORNERS, Physics, build_model


@pytest.fixture(scope="module")
def model():
    return build_model(GAINS)


@pytest.fixture(scope="module")
def unitree(shared) -> mujoco.MjModel:
    """Unitree's own model, without its meshes (which are not there)."""
    spec = mujoco.MjSpec.from_file(str(shared / "g1_model/unitree_mujoco/g1_29dof.xml"))
    for geom in [geom for geom in spec.geoms if geom.type == mujoco.mjtGeom.mjGEOM_MESH]:
        spec.delete(geom)
    for mesh in list(spec.meshes):
        spec.delete(mesh)
    return spec.compile()


def sole_height(model, data) -> float:
    """Of the lowest of the points that the corpus takes for the soles."""
    names = [model.site(i).name for i in range(model.nsite)]
    return min(data.site(name).xpos[2] for name in names if "heel" in name or "toe" in name)


def standing(model, height: float) -> mujoco.MjData:
    """A robot on straight legs, its soles at that height over the floor."""
    data = mujoco.MjData(model)
    data.qpos[:] = 0
    data.qpos[3] = 1
    mujoco.mj_kinematics(model, data)
    data.qpos[2] = height - sole_height(model, data)
    mujoco.mj_forward(model, data)
    return data


def test_motors_are_the_contracts(model, g1):
    names = [model.actuator(i).name for i in range(model.nu)]
    assert tuple(names) == g1.joint_names
    assert [model.joint(name).qposadr[0] for name in names] == list(range(7, 36))
    assert (model.dof_armature[6:] == GAINS.armature).all()
    assert (model.actuator_gainprm[:, 0] == GAINS.kp).all()
    assert (model.actuator_biasprm[:, 1] == -GAINS.kp).all()
    assert (model.actuator_biasprm[:, 2] == -GAINS.kd).all()
    assert (model.actuator_forcerange == np.stack([-GAINS.effort, GAINS.effort], 1)).all()


def test_joints_keep_the_robots_limits(model, g1):
    assert np.allclose(model.jnt_range[1:], np.stack([g1.lower, g1.upper], 1))


def test_a_motor_gives_the_pd_law_up_to_its_effort(model):
    rng = np.random.default_rng(0)
    data = mujoco.MjData(model)
    data.qpos[2] = 5
    data.qpos[7:], data.qvel[6:] = rng.normal(0, 0.3, 29), rng.normal(0, 1, 29)
    data.ctrl[:] = data.qpos[7:] + rng.normal(0, 2, 29)
    mujoco.mj_forward(model, data)
    law = GAINS.kp * (data.ctrl - data.qpos[7:]) - GAINS.kd * data.qvel[6:]
    assert (np.abs(law) > GAINS.effort).any()
    assert np.allclose(data.actuator_force, np.clip(law, -GAINS.effort, GAINS.effort))


def test_the_mass_is_the_files(model, g1):
    assert model.body_mass.sum() == pytest.approx(mujoco.MjModel.from_xml_path(str(g1.mjcf)).body_mass.sum(), rel=1e-12)


@pytest.mark.parametrize("feet", ["corners", "capsules"])
def test_soles_touch_the_floor_at_the_height_of_the_corpus_sole_points(feet):
    model = build_model(GAINS, Physics(feet=feet))
    assert standing(model, 1e-4).ncon == 0
    touching = standing(model, -1e-4)
    geoms = {model.geom(geom).name for pair in touching.contact.geom for geom in pair}
    assert all("foot" in name or name == "floor" for name in geoms)
    for side in SIDES:
        assert any(name.startswith(f"{side}_foot") for name in geoms)


def test_each_foot_stands_on_four_corners(model):
    touching = standing(model, -1e-4)
    assert touching.ncon == 8
    assert np.allclose(touching.contact.dist, -1e-4, atol=1e-6)


def test_friction_and_self_collision_are_as_asked():
    model = build_model(GAINS, Physics(friction=0.4, self_collision=False, timestep_s=0.002, substeps=10))
    assert (model.geom_friction[:, 0] == 0.4).all()
    assert model.opt.timestep == 0.002
    assert Physics(timestep_s=0.002, substeps=10).control_period_s == pytest.approx(0.02)
    folded = np.zeros(36)
    folded[2], folded[3] = 5.0, 1.0
    folded[7 + 3], folded[7 + 9] = 2.5, 2.5  # both knees, so that nothing but parts of the robot could touch
    folded[7 + 1], folded[7 + 7] = -0.5, 0.5  # legs crossed
    contacts = {}
    for free, other in ((True, build_model(GAINS)), (False, model)):
        data = mujoco.MjData(other)
        data.qpos[:] = folded
        mujoco.mj_forward(other, data)
        contacts[free] = data.ncon
    assert contacts[True] > 0
    assert contacts[False] == 0


def test_unknown_feet_are_refused():
    with pytest.raises(MotionloomError, match="corners, capsules"):
        build_model(GAINS, Physics(feet="wheels"))


def test_standing_robots_stay_put_for_a_moment(model):
    """Weight and floor: the feet carry the robot's weight while its motors hold the stance."""
    data = mujoco.MjData(model)
    data.qpos[:] = [0, 0, 0, 1, 0, 0, 0, *STANDING]
    mujoco.mj_kinematics(model, data)
    data.qpos[2] = -sole_height(model, data)
    data.ctrl[:] = STANDING
    forces = []
    for step in range(100):
        mujoco.mj_step(model, data)
        if step >= 50:
            total = np.zeros(6)
            for i in range(data.ncon):
                one = np.zeros(6)
                mujoco.mj_contactForce(model, data, i, one)
                total += one
            forces.append(total[0])
    assert np.mean(forces) == pytest.approx(9.81 * model.body_mass.sum(), rel=0.1)


@pytest.mark.data
def test_joints_and_soles_are_unitrees_own(model, unitree, g1):
    names = [unitree.joint(i).name for i in range(1, unitree.njnt)]
    assert tuple(names) == g1.joint_names
    assert np.allclose(unitree.jnt_range[1:], model.jnt_range[1:], atol=1e-4)
    for side in SIDES:
        foot = unitree.body(f"{side}_ankle_roll_link").id
        spheres = (unitree.geom_bodyid == foot) & (unitree.geom_type == mujoco.mjtGeom.mjGEOM_SPHERE)
        assert np.allclose(unitree.geom_size[spheres, 0], CORNER_RADIUS)
        corners = {tuple(place) for place in unitree.geom_pos[spheres].round(6)}
        assert corners == {(*corner, CORNER_HEIGHT) for corner in SOLE_CORNERS}


@pytest.mark.data
def test_masses_are_those_of_unitrees_description(model, shared):
    """Of revision 1.0, whose effort limits ours are; the MJCF in Unitree's simulator has an older, heavier torso."""
    tree = ElementTree.parse(shared / "g1_model/urdf/g1_29dof_rev_1_0.urdf")
    masses = {
        link.get("name"): float(found.get("value"))
        for link in tree.iter("link")
        if (found := link.find("inertial/mass")) is not None
    }
    assert model.body_mass.sum() == pytest.approx(sum(masses.values()), abs=1e-3)
    assert model.body("left_knee_link").mass[0] == pytest.approx(masses["left_knee_link"], abs=1e-6)
