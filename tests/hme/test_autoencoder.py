"""The trained embedding: what must move it, what must not, and that it stays what it was."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from swinging import swinging

from corpus import rotations
from corpus.errors import MotionloomError, Rejected
from corpus.motion import RobotMotion
from hme.embedder import load_embedder
from hme.embedding import join_embeddings
from hme.features import JOINTS, features
from hme.spectrum import fit

torch = pytest.importorskip("torch")

from hme.autoencoder import PRESETS, Autoencoder, AutoencoderConfig, told_blocks  # noqa: E402
from hme.periodic.training import Training, train_on  # noqa: E402

SMALL = AutoencoderConfig(hidden=12, latent=4)
BRIEFLY = Training(batch_size=64, steps=30)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def embedder(motions) -> Autoencoder:
    return train_on(motions, SMALL, training=BRIEFLY)


@pytest.fixture(scope="module")
def found(embedder, motions):
    return embedder.embed(motions)


def raw_of(embedder: Autoencoder, motion: RobotMotion):
    return told_blocks(
        features([motion]), embedder.config, embedder.channel_mean, embedder.channel_scale, embedder._network
    )


def nearest(found) -> float:
    """Median distance to the nearest neighbour."""
    apart = found.distance_to(found)
    np.fill_diagonal(apart, np.inf)
    return float(np.median(apart.min(1)))


def test_place_and_heading_do_not_move_it(embedder, found):
    motion = swinging(1.3, 6, seed=50)
    turn = rotations.about_z(np.array(-1.0))
    place = rotations.rotate(turn, motion.root_position) + [5, 2, 0]
    elsewhere = np.concatenate([place, rotations.multiply(turn, motion.root_rotation), motion.joint_position], 1)
    apart = embedder.embed([motion]).distance_to(embedder.embed([replace(motion, qpos=elsewhere)]))
    assert apart[0, 0] < 1e-4 * nearest(found)


def test_where_a_periodic_motion_starts_hardly_moves_it(embedder, found):
    shifted = embedder.embed([swinging(1.3, 12, seed=50, start_s=start_s) for start_s in (0, 0.1, 0.33, 1)])
    assert shifted.distance_to(shifted).max() < 0.25 * nearest(found)


def test_blocks_are_those_promised(found):
    widths = {name: block.shape for name, block in found.blocks.items()}
    assert widths == {
        "sine_amplitude": (40, 8), "sine_frequency": (40, 8), "residual": (40, 156), "residual_spread": (40, 156), "pose": (40, 29),
        "velocity": (40, 6),
    }  # fmt: skip
    for block in found.blocks.values():
        assert (block.astype(float) ** 2).sum(1).mean() == pytest.approx(1, rel=1e-3)
    assert found.vectors.dtype == np.float32


def test_the_published_preset_is_mean_and_spread_of_amplitude_and_frequency(motions):
    config = replace(PRESETS["published"], hidden=12)
    found = train_on(motions, config, training=BRIEFLY).embed(motions)
    assert found.vectors.shape == (40, 32)
    rows = found.weighed({"sine_amplitude": 1.0, "sine_frequency": 1.0}).astype(float)
    apart = np.linalg.norm(rows[:, None] - rows, axis=-1)
    assert np.allclose(found.distance_to(found), apart, atol=1e-3)


def test_whitened_components_have_equal_widths(motions):
    found = train_on(motions, replace(SMALL, whiten=True, dimensions=10), training=BRIEFLY).embed(motions)
    assert np.allclose(found.vectors.std(0), 1, atol=1e-3)


def test_what_the_network_draws_again_is_no_residual(embedder):
    """An untouched sine of half a channel's scale has this energy; what is left of it is no more than that."""
    qpos = np.tile(swinging(1, 0.1).qpos[:1], (600, 1))
    qpos[:, 7] += 0.5 * embedder.channel_scale[JOINTS][0] * np.sin(2 * np.pi * np.arange(600) / 50)
    silent = replace(embedder, network_weights={
        name: np.zeros_like(array) if name.startswith("decoder.9") else array
        for name, array in embedder.network_weights.items()
    })  # fmt: skip
    raw, _ = raw_of(silent, RobotMotion(qpos, 50.0))
    energy = np.exp(2 * raw["residual"].reshape(4, -1)[:, JOINTS][:, 0]) - embedder.config.energy_floor
    assert energy.argmax() == 2  # 1 Hz lies between 0.9 and 1.8 Hz
    assert energy.sum() == pytest.approx(0.125, rel=0.05)


@pytest.mark.parametrize("ratio", [0.8, 1.25])
def test_frequency_follows_the_tempo(embedder, ratio):
    slow, fast = swinging(1.1, 12, seed=7), swinging(1.1 * ratio, 12, seed=7)
    frequency = embedder.embed([slow, fast]).frequency
    assert frequency[1] / frequency[0] == pytest.approx(ratio, rel=0.03)


def test_frequency_is_the_spectrums(embedder, motions, found):
    assert np.allclose(found.frequency, fit(motions).embed(motions).frequency, rtol=1e-3)


def test_short_motions_are_flagged_and_none_is_dropped(embedder):
    found = embedder.embed([swinging(1, seconds) for seconds in (0.04, 1, 4.0, 4.1, 9)])
    assert found.padded.tolist() == [True, True, True, False, False]
    assert np.isfinite(found.vectors).all()


def test_one_by_one_gives_what_all_at_once_gives(embedder, motions, found):
    alone = join_embeddings([embedder.embed([motion]) for motion in motions])
    assert np.allclose(alone.vectors, found.vectors, atol=1e-4)
    assert np.array_equal(alone.padded, found.padded)


def test_a_saved_embedder_is_the_same_embedder(embedder, motions, found, tmp_path):
    embedder.save(tmp_path / "embedder.npz")
    again = load_embedder(tmp_path / "embedder.npz")
    assert again.hme_id == embedder.hme_id
    assert np.array_equal(again.embed(motions).vectors, found.vectors)
    assert [path.name for path in tmp_path.iterdir()] == ["embedder.npz"]


def test_the_id_follows_config_weights_and_statistics(embedder):
    weights = dict(embedder.network_weights)
    weights["encoder.0.bias"] = weights["encoder.0.bias"] + np.float32(1e-3)
    others = [
        replace(embedder, config=replace(SMALL, pose_weight=0.9)),
        replace(embedder, network_weights=weights),
        replace(embedder, channel_mean=embedder.channel_mean + 1),
    ]
    assert len({embedder.hme_id, *(other.hme_id for other in others)}) == 4


def test_a_damaged_file_is_refused(embedder, tmp_path):
    path = tmp_path / "embedder.npz"
    embedder.save(path)
    whole = path.read_bytes()
    for damaged in (b"no npz", b"", whole[: len(whole) // 2], whole[:2000] + b"\0" * 500 + whole[2500:]):
        path.write_bytes(damaged)
        with pytest.raises(MotionloomError, match="holds no fitted autoencoder"):
            Autoencoder.load(path)


def test_a_spectrum_is_no_autoencoder(motions, tmp_path):
    fit(motions).save(tmp_path / "spectrum.npz")
    with pytest.raises(MotionloomError, match="is of the kind 'spectrum', not 'autoencoder'"):
        Autoencoder.load(tmp_path / "spectrum.npz")


def test_weights_that_do_not_fit_are_refused(embedder, tmp_path):
    replace(embedder, config=replace(SMALL, hidden=13)).save(tmp_path / "embedder.npz")
    with pytest.raises(MotionloomError, match="holds no fitted autoencoder"):
        Autoencoder.load(tmp_path / "embedder.npz")


def test_motions_that_are_not_finite_are_refused(embedder):
    qpos = swinging(1, 5).qpos.copy()
    qpos[100, 3:7] = 0
    with pytest.raises(MotionloomError, match="quaternion is zero"):
        embedder.embed([swinging(1, 5), RobotMotion(qpos, 50.0)])
    qpos[100] = np.nan
    with pytest.raises(Rejected, match="not_finite"):
        embedder.embed([RobotMotion(qpos, 50.0)])


def test_motions_of_another_robot_are_refused(embedder):
    with pytest.raises(MotionloomError, match="33 channels, this embedding was fitted on 39"):
        embedder.embed([swinging(1, 5, joints=23)])


@pytest.mark.parametrize(
    "wrong", [{"window": 40}, {"residual_edges_hz": (2.0, 1.0)}, {"latent": 0}, {"energy_floor": 0.0}]
)
def test_a_config_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(MotionloomError, match="should"):
        AutoencoderConfig(**wrong)


def test_the_spectrum_needs_no_torch():
    code = "import sys, hme.spectrum, hme.embedder, hme.space; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_without_torch_it_says_what_to_install():
    code = """
import sys
class WithoutTorch:
    def find_spec(self, name, *_):
        if name == "torch":
            raise ImportError("No module named 'torch'")
sys.meta_path.insert(0, WithoutTorch())
import hme.autoencoder
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MotionloomError: The autoencoder needs torch" in done.stderr
    assert "motionloom[train]" in done.stderr
