"""The training-free embedding: what must move it, what must not, and what it is by formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from swinging import swinging

from corpus import rotations
from corpus.errors import MotionloomError
from corpus.g1 import G1
from corpus.motion import RobotMotion
from hme.embedding import join_embeddings
from hme.features import JOINTS, features
from hme.spectrum import PRESETS, Spectrum, SpectrumConfig, _raw_blocks, _seen, fit


@pytest.fixture(scope="module")
def spectrum(motions) -> Spectrum:
    return fit(motions)


@pytest.fixture(scope="module")
def found(spectrum, motions):
    return spectrum.embed(motions)


def nearest(found) -> float:
    """Median distance to the nearest neighbour."""
    apart = found.distance_to(found)
    np.fill_diagonal(apart, np.inf)
    return float(np.median(apart.min(1)))


def moved(spectrum, motion: RobotMotion, changed: RobotMotion) -> float:
    return float(spectrum.embed([motion]).distance_to(spectrum.embed([changed]))[0, 0])


def seen(spectrum, motion: RobotMotion):
    """Its features and, where the embedding looks at them, hands and feet."""
    return _seen(features([motion]), spectrum.limbs)


def test_place_and_heading_do_not_move_it(spectrum, found):
    motion = swinging(1.3, 6, seed=50)
    turn = rotations.about_z(np.array(-1.0))
    place = rotations.rotate(turn, motion.root_position) + [5, 2, 0]
    elsewhere = np.concatenate([place, rotations.multiply(turn, motion.root_rotation), motion.joint_position], 1)
    assert moved(spectrum, motion, replace(motion, qpos=elsewhere)) < 1e-5 * nearest(found)


def test_where_a_periodic_motion_starts_hardly_moves_its_energies(spectrum):
    found = spectrum.embed([swinging(1.3, 9, seed=50, start_s=start_s) for start_s in (0, 0.1, 0.33, 1)])
    for name in ("mean", "spread"):
        assert np.linalg.norm(found.blocks[name] - found.blocks[name][0], axis=1).max() < 0.01


@pytest.mark.parametrize(("seconds", "tolerance"), [(12.0, 2e-5), (2.0, 2e-5)])
def test_log_energies_are_those_of_a_plain_fourier_transform(spectrum, seconds, tolerance):
    given = seen(spectrum, swinging(0.9, seconds))
    raw, _ = _raw_blocks(given, spectrum.config, spectrum.channel_mean, spectrum.channel_scale)
    z = ((given[0] - spectrum.channel_mean) / spectrum.channel_scale).astype(np.float64)
    size = min(len(z), 41)
    # A short motion's window is symmetric about its middle; the long ones' is periodic.
    weight = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(size) + (0.5 if size < 41 else 0)) / size)
    windows = np.lib.stride_tricks.sliding_window_view(z, size, 0)
    bins = np.fft.rfft((windows - windows.mean(-1, keepdims=True)) * weight, 41)
    energy = 2 * np.abs(bins) ** 2 / (41 * (weight**2).sum())
    band = np.searchsorted(spectrum.config.band_edges_hz, np.arange(21) / 4.1)
    band[0] = -1  # the mean is no movement
    told = np.stack([0.5 * np.log(energy[..., band == b].sum(-1) + 0.01) for b in range(4)], 1)
    assert np.abs(told.mean(0).ravel() - raw["mean"][0]).max() < tolerance
    assert np.abs(told.std(0).ravel() - raw["spread"][0]).max() < tolerance


@pytest.mark.parametrize(("hz", "band"), [(0.25, 0), (0.65, 1), (1.35, 2), (2.6, 3)])
def test_a_sine_lands_in_its_band_with_half_its_square_and_its_frequency(spectrum, hz, band):
    qpos = np.tile(swinging(1, 0.1).qpos[:1], (600, 1))
    qpos[:, 7] += 0.5 * np.sin(2 * np.pi * hz * np.arange(600) / 50)
    raw, frequency = _raw_blocks(
        seen(spectrum, RobotMotion(qpos, 50.0)), spectrum.config, spectrum.channel_mean, spectrum.channel_scale
    )
    energy = np.exp(2 * raw["mean"].reshape(4, -1)[:, JOINTS][:, 0]) - spectrum.config.energy_floor
    expected = 0.125 / spectrum.channel_scale[JOINTS][0] ** 2
    assert energy.argmax() == band
    assert energy.sum() == pytest.approx(expected, rel=0.2)
    assert frequency[0] == pytest.approx(hz, abs=0.06)


@pytest.mark.parametrize("ratio", [0.8, 1.25])
def test_frequency_follows_the_tempo(spectrum, ratio):
    slow, fast = swinging(1.1, 12, seed=7), swinging(1.1 * ratio, 12, seed=7)
    frequency = spectrum.embed([slow, fast]).frequency
    assert frequency[1] / frequency[0] == pytest.approx(ratio, rel=0.03)


def test_short_motions_are_flagged_and_none_is_dropped(spectrum):
    found = spectrum.embed([swinging(1, seconds) for seconds in (0.04, 1, 4.0, 4.1, 9)])
    assert found.padded.tolist() == [True, True, True, False, False]
    assert np.isfinite(found.vectors).all()


def test_padding_adds_no_energy(spectrum):
    still = np.tile(swinging(1, 1).qpos[:1], (60, 1))
    raw, frequency = _raw_blocks(
        seen(spectrum, RobotMotion(still, 50.0)), spectrum.config, spectrum.channel_mean, spectrum.channel_scale
    )
    assert np.allclose(raw["mean"], 0.5 * np.log(0.01), atol=1e-4)
    assert np.isfinite(frequency).all()


def test_motions_that_never_move_give_finite_numbers():
    still = [RobotMotion(np.tile(swinging(1, 1, seed=seed).qpos[:1], (n, 1)), 50.0) for seed, n in enumerate([50, 300])]
    found = fit(still).embed(still)
    assert np.isfinite(found.vectors).all()
    assert np.isfinite(found.frequency).all()


def test_long_motions_do_not_drift(spectrum):
    """Twenty minutes of the same swing are like one minute of it."""
    minute, long = swinging(1.3, 60, seed=3), swinging(1.3, 1200, seed=3)
    found = spectrum.embed([minute, long])
    assert np.abs(found.blocks["mean"][0] - found.blocks["mean"][1]).max() < 1e-3


def test_one_by_one_gives_what_all_at_once_gives(spectrum, motions, found):
    alone = join_embeddings([spectrum.embed([motion]) for motion in motions])
    assert np.allclose(alone.vectors, found.vectors, atol=1e-6)
    assert np.array_equal(alone.padded, found.padded)


def test_blocks_have_unit_norm_on_average(found):
    for block in found.blocks.values():
        assert (block.astype(float) ** 2).sum(1).mean() == pytest.approx(1, rel=1e-3)


def test_vectors_keep_the_distances_of_the_weighed_blocks(spectrum, found):
    rows = found.weighed(spectrum.config.weights).astype(float)
    apart = np.linalg.norm(rows[:, None] - rows, axis=-1)
    assert np.allclose(found.distance_to(found), apart, atol=1e-3)  # forty motions span no more than 39 components


def test_a_block_can_be_left_out(found):
    assert found.weighed({"mean": 1.0, "velocity": 0.5}).shape == (40, 4 * (39 + 12) + 6)
    with pytest.raises(MotionloomError, match=r"No block 'posture'. Known: mean, spread, pose, velocity"):
        found.weighed({"posture": 1.0})


def test_the_published_preset_tells_amplitude_and_frequency(motions):
    spectrum = fit(motions, PRESETS["published"])
    swing = np.tile(swinging(1, 0.1).qpos[:1], (600, 1))
    swing[:, 7] += 0.5 * np.sin(2 * np.pi * np.arange(600) / 50)
    raw, _ = _raw_blocks(
        seen(spectrum, RobotMotion(swing, 50.0)), spectrum.config, spectrum.channel_mean, spectrum.channel_scale
    )
    amplitude, hz = raw["mean"].reshape(2, -1)[:, JOINTS][:, 0]
    assert amplitude * spectrum.channel_scale[JOINTS][0] == pytest.approx(0.5, rel=0.07)
    assert hz == pytest.approx(1.0, abs=0.06)
    assert spectrum.embed(motions).vectors.shape == (40, 32)


def test_vectors_of_different_embedders_refuse_to_mix(motions, found):
    other = fit(motions[:20]).embed(motions)
    with pytest.raises(MotionloomError, match="different embedders"):
        join_embeddings([found, other])
    with pytest.raises(MotionloomError, match="different embedders"):
        found.distance_to(other)


def test_the_id_follows_config_and_statistics(spectrum, motions):
    assert fit(motions).hme_id == spectrum.hme_id
    assert fit(motions, SpectrumConfig(dimensions=8)).hme_id != spectrum.hme_id
    assert fit(motions, replace(spectrum.config, energy_floor=0.02)).hme_id != spectrum.hme_id


def test_a_saved_embedder_is_the_same_embedder(spectrum, motions, found, tmp_path):
    spectrum.save(tmp_path / "spectrum.npz")
    again = Spectrum.load(tmp_path / "spectrum.npz")
    assert again.hme_id == spectrum.hme_id
    assert again.config == spectrum.config
    assert np.array_equal(again.embed(motions).vectors, found.vectors)
    assert [path.name for path in tmp_path.iterdir()] == ["spectrum.npz"]


def test_another_file_is_refused(tmp_path):
    (tmp_path / "other.npz").write_bytes(b"no npz")
    with pytest.raises(MotionloomError, match="holds no fitted spectrum"):
        Spectrum.load(tmp_path / "other.npz")


def test_a_quaternion_of_zeros_is_refused(spectrum, motions):
    qpos = swinging(1, 5).qpos.copy()
    qpos[100, 3:7] = 0
    broken = RobotMotion(qpos, 50.0)
    with pytest.raises(MotionloomError, match="quaternion is zero"):
        spectrum.embed([swinging(1, 5), broken])
    with pytest.raises(MotionloomError, match="quaternion is zero"):
        fit([*motions, broken])


def test_motions_of_another_robot_are_refused(spectrum):
    with pytest.raises(MotionloomError, match="33 channels, this embedding was fitted on 39"):
        spectrum.embed([swinging(1, 5, joints=23)])


@pytest.mark.parametrize(
    "wrong", [{"window": 40}, {"band_edges_hz": (2.0, 1.0)}, {"band_edges_hz": (6.0,)}, {"dimensions": 0}]
)
def test_a_config_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(MotionloomError, match="should"):
        SpectrumConfig(**wrong)


def test_a_hand_raised_by_other_joints_is_a_hand_raised(motions):
    """Two ways to hold a hand in nearly one place differ by less where hands are looked at than where they are not."""
    shoulder, wrist = G1.joint_names.index("left_shoulder_roll_joint"), G1.joint_names.index("left_wrist_yaw_joint")
    plain = np.tile(swinging(1, 0.1).qpos[:1], (300, 1))
    plain[:, 7:] = 0
    raised, turned = plain.copy(), plain.copy()
    raised[:, 7 + shoulder] += 1.0
    turned[:, 7 + wrist] += 1.0  # the wrist's origin stays where it is
    shares = {}
    for name in ("spectrum", "spectrum-2"):
        spectrum = fit(motions, PRESETS[name])
        poses = spectrum.embed([RobotMotion(qpos, 50.0) for qpos in (plain, raised, turned)]).blocks["pose"]
        shares[name] = np.linalg.norm(poses[2] - poses[0]) / np.linalg.norm(poses[1] - poses[0])
    assert shares["spectrum"] < 0.9 * shares["spectrum-2"]
