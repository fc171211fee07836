"""The readers against ground truth: joint positions, recorded markers, and the same take in two data sets' formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corpus import rotations
from corpus.motion import HumanMotion
from corpus.sources import SOURCES, LoadOptions
from corpus.sources.synthetic import KINDS, human_motion
from corpus.sources.synthetic_files import write_amass_smplx, write_motionx, write_phuma_human


def load(root: Path, source: str, name: str) -> HumanMotion:
    clip = next(clip for clip in SOURCES[source].scan(root) if clip.path == name)
    motion = SOURCES[source].load(root, clip, LoadOptions())
    assert isinstance(motion, HumanMotion)
    return motion


@pytest.mark.data
def test_lafan1_kinematics_equal_the_ground_truth(shared):
    motion = load(shared / "lafan1_bvh", "lafan1", "dance1_subject1__f0_1800.bvh")
    truth = np.load(shared / "lafan1_jointpos" / "dance1_subject1.npy")[:1800]
    upright = rotations.rotate(np.broadcast_to(rotations.Y_UP_TO_Z_UP, (*truth.shape[:2], 4)), truth)
    assert motion.fps == 30.0
    assert np.abs(motion.position - upright).max() < 1e-9


@pytest.mark.data
def test_a_lafan1_takes_name_tells_its_recording(shared):
    clips = {clip.path: clip for clip in SOURCES["lafan1"].scan(shared / "lafan1_bvh")}
    clip = clips["walk1_subject1__f0_1800.bvh"]
    assert (clip.recording, clip.subject, clip.label) == ("walk1_subject1", "subject1", "walk")


# Surface markers and the joint each lies over: front of the hips' line is left out, the limbs' ends count.
MARKERS = {
    "LKNE": "left_knee", "RKNE": "right_knee", "LANK": "left_ankle", "RANK": "right_ankle", "LELB": "left_elbow",
    "RELB": "right_elbow", "LSHO": "left_shoulder", "RSHO": "right_shoulder", "LTOE": "left_foot", "RTOE": "right_foot",
}  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "name", "labels", "markers"),
    [
        ("amass_smplx", "CMU_UH1example_stageii.npz", "labels", "markers"),
        ("amass_smplh", "amass_sample_B.npz", "labels", "markers"),
        ("amass_smplh", "dmpl_sample.npz", "marker_labels", "marker_data"),
    ],
)
def test_amass_joints_lie_within_15_cm_of_their_recorded_markers(shared, capsys, folder, name, labels, markers):
    """Median distance of each limb marker over the take; the mean skeleton, no licensed body model."""
    motion = load(shared / folder, "amass", name)
    file = np.load(shared / folder / name, allow_pickle=False)
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in file[labels]]
    names = [n.split(":")[-1].upper() for n in names]
    points = file[markers]
    if np.nanmedian(np.abs(points)) > 20:
        points = points / 1000  # some takes keep their markers in millimetres
    distances = {}
    for marker, joint in MARKERS.items():
        if marker in names:
            path = points[:, names.index(marker)]
            seen = np.isfinite(path).all(1) & (np.abs(path).sum(1) > 0)
            gap = np.linalg.norm(path[seen] - motion.position[seen, motion.skeleton.index(joint)], axis=1)
            distances[marker] = float(np.median(gap))
    if not distances:
        pytest.skip(f"no marker of the list is in {name}: {', '.join(names[:10])}")
    with capsys.disabled():
        print(f"\n{name}: {', '.join(f'{m} {100 * d:.1f} cm' for m, d in distances.items())}")
    assert max(distances.values()) < 0.15


@pytest.mark.data
def test_amass_and_motionx_files_of_one_take_give_the_same_motion(shared):
    amass = load(shared / "amass_smplx", "amass", "CMU_UH1example_stageii.npz")
    motionx = load(shared / "motionx_made", "motionx", "CMU_UH1example_322.npy")
    assert np.abs(amass.position[::4] - motionx.position).max() < 1e-4
    apart = rotations.multiply(amass.rotation[::4], rotations.conjugate(motionx.rotation))
    assert np.linalg.norm(rotations.to_rotation_vector(apart), axis=2).max() < 1e-4


@pytest.mark.data
def test_motionx_and_phuma_files_of_one_take_give_the_same_motion(shared):
    phuma = load(shared / "phuma", "phuma", "kick.npy")
    motionx = load(shared / "motionx_made", "motionx", "kick_from_phuma_322.npy")
    assert np.abs(phuma.position - motionx.position).max() < 1e-4


@pytest.mark.data
def test_the_sunk_motionx_file_is_caught_and_mended(shared):
    right, sunk = (load(shared / "motionx_made", "motionx", f"CMU_UH1example_322{end}.npy") for end in ("", "_naive"))
    assert "pelvis offset" in sunk.note
    # Mended within the mean body's forward offset of the pelvis.
    assert np.abs(right.position - sunk.position).max() < 0.03


@pytest.mark.data
@pytest.mark.parametrize("folder", ["g1_formats", "g1_moves", "lafan1_g1_csv"])
def test_every_robot_file_loads_upright_or_says_why_not(shared, folder):
    from corpus.errors import Rejected

    refused = {}
    for clip in SOURCES["robot"].scan(shared / folder):
        try:
            motion = SOURCES["robot"].load(shared / folder, clip, LoadOptions())
        except Rejected as rejected:
            refused[clip.path] = rejected.reason
            continue
        up = rotations.rotate(motion.root_rotation, np.broadcast_to([0.0, 0, 1.0], motion.root_position.shape))[:, 2]
        assert np.quantile(up[motion.root_position[:, 2] > 0.6], 0.1) > 0.6, clip.path
    expected = {"SOURCE.txt", "kimodo/g1rp_01.npz", "uh1/h12_example.npy"}
    assert set(refused) <= expected, refused


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_one_movement_in_three_formats_is_one_motion(tmp_path, kind):
    """Written format-true at 30 Hz, read back by three readers; float32 files allow a tenth of a millimetre."""
    motion = human_motion(kind, seed=2, seconds=2.0, fps=30.0)
    for source in ("amass", "motionx", "phuma"):
        (tmp_path / source).mkdir()
    write_amass_smplx(motion, tmp_path / "amass" / "a_stageii.npz")
    write_motionx(motion, tmp_path / "motionx" / "a.npy")
    write_phuma_human(motion, tmp_path / "phuma", "a")
    for source, name in (("amass", "a_stageii.npz"), ("motionx", "a.npy"), ("phuma", "a_chunk_0000.npy")):
        got = load(tmp_path / source, source, name)
        assert np.abs(got.position[:, 0] - motion.position[: got.frame_count, 0]).max() < 1e-4, source
        apart = rotations.multiply(got.rotation, rotations.conjugate(motion.rotation[: got.frame_count]))
        assert np.linalg.norm(rotations.to_rotation_vector(apart), axis=2).max() < 1e-3, source
