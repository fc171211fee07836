from __future__ import annotations

import json

import numpy as np
import pytest
from strolling import stroll

from corpus import rotations
from corpus.errors import MotionloomError
from deploy.planner.features import COLUMNS, HORIZON, features
from deploy.planner.index import Index, _digest, _hash, build_index
from deploy.planner.styles import describe


def test_what_is_written_is_what_is_read(index, tmp_path):
    walk, stand = stroll(0.9, seed=3), stroll(0.0, seed=4)
    built = build_index(tmp_path / "i", [(walk, ("walk", "cluster-1")), (stand, ())], about={"corpus": "x"})
    again = Index.open(tmp_path / "i")
    np.testing.assert_allclose(again.qpos, np.concatenate([walk, stand]), atol=1e-6)
    np.testing.assert_array_equal(again.features, built.features)
    assert again.style_names == ("cluster-1", "walk") and again.about["corpus"] == "x"
    assert again.styles.tolist() == [[True, False], [True, False]]


def test_features_come_back_from_the_turned_columns(index):
    row = int(index.order[7])
    start, frames = index.motions[index.motion_of_row[row]]
    raw = features(index.qpos[start : start + frames], np.array([index.frame_of(row) - start]))
    np.testing.assert_allclose(index.raw(index.features[row]), raw[0], atol=1e-4)


def test_features_do_not_see_place_and_heading():
    qpos, rows = stroll(0.8, 0.5, seed=1), np.arange(0, 100, 5)
    turn = rotations.about_z(np.array(1.3))
    moved = qpos.copy()
    moved[:, :3] = rotations.rotate(turn, qpos[:, :3]) + [3, -2, 0]
    moved[:, 3:7] = rotations.multiply(turn, qpos[:, 3:7])
    np.testing.assert_allclose(features(moved, rows), features(qpos, rows), atol=1e-5)


def test_the_way_ahead_is_speed_times_time():
    raw = features(stroll(0.8), np.array([20]))[0]
    np.testing.assert_allclose(raw[COLUMNS["path"]].reshape(3, 2), [[0.272, 0], [0.528, 0], [0.8, 0]], atol=1e-6)
    np.testing.assert_allclose(raw[COLUMNS["velocity"]][:2], [0.8, 0], atol=1e-6)


def test_motions_end_to_end_do_not_look_at_each_other():
    one, two = stroll(0.8, seed=1), stroll(0.3, seed=2)
    rows = np.arange(0, 300, 5)
    both = features(np.concatenate([one, two]), np.concatenate([rows, rows + 300]), [0, 300])
    np.testing.assert_allclose(both, np.concatenate([features(one, rows), features(two, rows)]), atol=1e-6)


def test_no_jump_leads_to_a_motions_end(index):
    left = np.array([index.motions[index.motion_of_row[r]].sum() - 1 - index.frame_of(int(r)) for r in index.order])
    assert left.min() >= HORIZON


def test_a_short_motion_may_be_jumped_to_in_its_first_half(tmp_path):
    short = build_index(tmp_path / "i", [(stroll(0.5, seconds=0.8), ())])
    assert sorted(set(short.order.tolist())) == [0, 1, 2, 3]


def test_an_index_takes_the_place_of_the_one_before(tmp_path):
    build_index(tmp_path / "i", [(stroll(0.5), ("a",))])
    build_index(tmp_path / "i", [(stroll(0.5), ("b",))])
    assert Index.open(tmp_path / "i").style_names == ("b",)
    assert [path.name for path in tmp_path.iterdir()] == ["i"]


def test_nothing_to_plan_with_is_said(tmp_path):
    with pytest.raises(MotionloomError, match="25 frames"):
        build_index(tmp_path / "i", [(stroll(0.5, seconds=0.2), ())])


@pytest.fixture
def copy(index, tmp_path):
    built = build_index(tmp_path / "i", [(stroll(0.5), ("a",))])
    assert built.every == 5
    return tmp_path / "i"


@pytest.mark.parametrize("name", ["qpos", "features", "order", "motions"])
def test_a_changed_byte_is_noticed(copy, name):
    told = bytearray((copy / f"{name}.npy").read_bytes())
    told[-3] ^= 1
    (copy / f"{name}.npy").write_bytes(told)
    with pytest.raises(MotionloomError, match="damaged"):
        Index.open(copy)


@pytest.mark.parametrize("name", ["qpos", "head", "styles"])
def test_a_file_cut_short_or_gone_is_noticed(copy, name):
    file = copy / f"{name}.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(MotionloomError, match="damaged"):
        Index.open(copy)
    file.unlink()
    with pytest.raises(MotionloomError, match="damaged"):
        Index.open(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"hash": 1}', "[" * 100_000])
def test_what_is_no_index_is_refused(copy, text):
    (copy / "index.json").write_text(text)
    with pytest.raises(MotionloomError):
        Index.open(copy)


def test_changed_facts_are_noticed(copy):
    about = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_text(json.dumps({**about, "every": 1}))
    with pytest.raises(MotionloomError, match="not as it was written"):
        Index.open(copy)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("order", lambda order: order + 10_000),
        ("order", lambda order: order.astype(np.float64)),
        ("order", lambda order: order[:-1]),
        ("qpos", lambda qpos: qpos * 0),
        ("features", lambda features: features * np.float32(np.nan)),
        ("motions", lambda motions: motions + 1),
        ("basis", lambda basis: basis[:5]),
        ("motions", lambda motions: motions.ravel()),
    ],
)
def test_nonsense_is_refused_though_hashes_fit(copy, name, change):
    np.save(copy / f"{name}.npy", change(np.load(copy / f"{name}.npy")))
    about = json.loads((copy / "index.json").read_text())
    about["files"][name] = _digest(copy / f"{name}.npy")
    seal(copy, about)
    with pytest.raises(MotionloomError, match="does not hold"):
        Index.open(copy)


@pytest.mark.parametrize("change", [{"every": "x"}, {"every": 0}, {"upright": None}, {"styles": 3}, {"styles": []}])
def test_odd_facts_are_refused_though_the_hash_fits(copy, change):
    seal(copy, json.loads((copy / "index.json").read_text()) | change)
    with pytest.raises(MotionloomError):
        Index.open(copy)


def seal(folder, about) -> None:
    about.pop("hash")
    (folder / "index.json").write_text(json.dumps({**about, "hash": _hash(about)}))


def test_no_folder_is_no_index(tmp_path):
    with pytest.raises(MotionloomError, match="no planner index"):
        Index.open(tmp_path / "nowhere")


def test_styles_are_told_with_speed_and_height(index):
    styles = {style.name: style for style in describe(index)}
    assert set(styles) == {"stand", "walk", "squat", "creep", "low"}
    assert styles["walk"].seconds == 72 and styles["low"].motions == 2
    assert styles["stand"].speed[1] < 0.01 and 1.1 < styles["walk"].speed[1] < 1.3
    assert styles["squat"].height[1] < styles["walk"].height[0] - 0.1
