"""An export answers as the student does, or leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from toy_bundle import WINDOW, toy_student  # noqa: E402

from corpus.errors import MotionloomError  # noqa: E402
from deploy.bundle import open_bundle  # noqa: E402
from deploy.session import open_session  # noqa: E402
from trainer import export, step_graph  # noqa: E402
from trainer.export import export_bundle, write_bundle  # noqa: E402
from trainer.parity import LIMITS, TEN_HOURS, random_frames  # noqa: E402


def test_the_bundle_tells_how_near_it_is(exported):
    parity = open_bundle(exported).facts["parity"]
    assert parity["frames"] == {"random": 3 * WINDOW, "run": 0}
    for name in ("window_max_error", "kv_parity_max_error", "ten_hours_max_error"):
        assert 0 < parity[name] < LIMITS["float32"]
    assert 0 < parity["int8_relative_error"]["random"] < LIMITS["int8"]


@pytest.mark.parametrize("position", [0, 3, TEN_HOURS])
def test_the_step_graph_is_the_students_own_step(position):
    model, generator = toy_student().model, torch.Generator().manual_seed(0)
    cache = model.new_cache(1)
    keys, values = (torch.randn(cache.keys.shape, generator=generator) for _ in range(2))
    seen = torch.rand(cache.seen.shape, generator=generator) < 0.6
    observation = torch.randn(1, len(model.normaliser.mean), generator=generator)
    with torch.no_grad():
        found = step_graph.StepGraph(model)(observation, keys, values, seen, torch.tensor([position]))
        right = model.step_with(observation, keys, values, seen, torch.tensor(position))
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("robots", "frames"), [(1, WINDOW), (5, WINDOW), (2, 3), (3, 4 * WINDOW)])
def test_the_window_graph_takes_any_number_of_robots_and_frames(exported, robots, frames):
    model = toy_student().model
    rows = np.stack([random_frames(model, frames, seed=seed) for seed in range(robots)])
    valid = np.arange(frames) >= np.arange(robots)[:, None] % frames
    (found,) = open_session(exported / "window.onnx", "window").run(None, {"observation": rows, "valid": valid})
    with torch.no_grad():
        right = model(torch.from_numpy(rows), torch.from_numpy(valid)).numpy()
    np.testing.assert_allclose(found, right, atol=1e-5)


@pytest.fixture
def quick(monkeypatch, exported):
    """Exports of the toy take the graphs that were made before: torch's exporter takes seconds for each."""
    monkeypatch.setattr(export, "write_step", lambda model, path, told: shutil.copy(exported / "step.onnx", path))
    monkeypatch.setattr(export, "write_window", lambda model, path, told: shutil.copy(exported / "window.onnx", path))


def broken(exported: Path, name: str):
    """The exporter of a graph in which one number of one weight is not the student's."""
    import onnx

    def write(model, path, told):
        graph = onnx.load(exported / name)
        bias = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith("blocks.1.narrow.bias"))
        wrong = onnx.numpy_helper.to_array(bias).copy()
        wrong[-1] += 0.1
        bias.CopyFrom(onnx.numpy_helper.from_array(wrong, bias.name))
        onnx.save(graph, path)

    return write


@pytest.mark.parametrize("name", ["step", "window"])
def test_a_model_that_is_not_the_student_leaves_nothing(tmp_path, monkeypatch, quick, exported, name):
    monkeypatch.setattr(export, f"write_{name}", broken(exported, f"{name}.onnx"))
    with pytest.raises(MotionloomError, match="answer"):
        write_bundle(toy_student(), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_int8_that_is_too_far_off_leaves_nothing(tmp_path, monkeypatch, quick):
    monkeypatch.setitem(LIMITS, "int8", 1e-6)
    with pytest.raises(MotionloomError, match="int8 does not answer as the student"):
        write_bundle(toy_student(), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_what_failed_leaves_the_bundle_that_was_there(bundle_copy, monkeypatch, quick):
    monkeypatch.setitem(LIMITS, "float32", 0.0)
    with pytest.raises(MotionloomError):
        write_bundle(toy_student(), bundle_copy, precisions=["float32"])
    assert open_bundle(bundle_copy).facts["source"]["step"] == 12


def test_a_new_export_takes_the_old_ones_place(bundle_copy, quick):
    write_bundle(toy_student(), bundle_copy, precisions=["float32"], source={"step": 13})
    bundle = open_bundle(bundle_copy)
    assert (bundle.facts["source"]["step"], bundle.precisions) == (13, ("float32",))
    assert [path.name for path in bundle_copy.parent.iterdir()] == ["bundle"]


def test_only_what_is_asked_for_is_written(tmp_path, quick):
    bundle = open_bundle(write_bundle(toy_student(), tmp_path / "bundle", precisions=["int8"]))
    assert bundle.precisions == ("int8",)
    assert np.isfinite(bundle.policy("int8").act(np.zeros(7, np.float32))).all()


@pytest.mark.parametrize("precisions", [(), ("float16",)])
def test_an_unknown_precision_is_refused(tmp_path, precisions):
    with pytest.raises(MotionloomError, match="Known: float32, int8"):
        write_bundle(toy_student(), tmp_path / "bundle", precisions=precisions)


def test_somebodys_folder_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(MotionloomError, match="no policy bundle"):
        write_bundle(toy_student(), tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_folder_without_a_student_is_refused(tmp_path):
    with pytest.raises(MotionloomError):
        export_bundle(tmp_path / "nothing", tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["check_parity", "hash_of"])
def test_one_killed_half_way_leaves_nothing_that_opens(tmp_path, exported, where):
    program = f"""
import os, shutil, signal, sys
sys.path[:0] = ["tests/helpers", "."]
from pathlib import Path
from toy_bundle import toy_student
from trainer import export
for name in ("step", "window"):
    copy = lambda model, path, told, name=name: shutil.copy(Path({str(exported)!r}) / f"{{name}}.onnx", path)
    setattr(export, f"write_{{name}}", copy)
setattr(export, {where!r}, lambda *args: os.kill(os.getpid(), signal.SIGKILL))
export.write_bundle(toy_student(), Path({str(tmp_path / "bundle")!r}))
"""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], env=env)
    assert ended.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name == ".tmp-bundle"
    with pytest.raises(MotionloomError, match="no policy bundle"):
        open_bundle(left)


def test_what_a_killed_export_left_does_not_disturb_the_next(tmp_path, quick):
    (tmp_path / ".tmp-bundle").mkdir()
    (tmp_path / ".tmp-bundle" / "bundle.json").write_text("half of it")
    open_bundle(write_bundle(toy_student(), tmp_path / "bundle"))
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
