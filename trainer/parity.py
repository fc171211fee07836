"""Do the exported models answer as the student does? If not, there is no bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from corpus.errors import MotionloomError
from deploy.bundle import WINDOW, PolicyBundle
from deploy.policy import StepPolicy
from deploy.session import open_session
from trainer.aggregate import FOLDER, read_trajectories, rollout_path
from trainer.gpt import Gpt
from trainer.student_policy import StudentPolicy

LIMITS = {"float32": 1e-4, "int8": 0.03}
"""Of float32 the largest difference of an action; of int8 ‖a8 − a‖ / ‖a‖ over all frames."""
WINDOWS = 3
"""Frames of each test, in windows: the ring goes round, and what left it must be gone."""
TEN_HOURS = 50 * 3600 * 10
"""[control periods]"""
ROWS = 8
"""Most episodes of the run's own that are looked at."""


def check_parity(student: StudentPolicy, bundle: PolicyBundle, run: Path | None) -> dict[str, Any]:
    """The figures of all tests; raises `MotionloomError` where a limit is passed.

    Frames are made up by the student's statistics of what it observed, and, where the run still has its rollouts, taken from them.
    int8 is judged by the run's own frames if there are some: these are what it will see.
    """
    model, figures = student.model, dict[str, Any]()
    made_up, own = random_frames(model, WINDOWS * model.shape.window, seed=1), run_frames(run, model)
    figures["frames"] = {"random": len(made_up), "run": sum(len(row) for row in own)}
    figures["window_max_error"] = _limited("window.onnx", _window_error(model, bundle, made_up), LIMITS["float32"])
    if "float32" in bundle.precisions:
        policy, rows = bundle.policy("float32"), [made_up, *own]
        figures["kv_parity_max_error"] = _limited("float32", step_error(policy, model, rows), LIMITS["float32"])
        late = step_error(policy, model, [made_up], start=TEN_HOURS)
        figures["ten_hours_max_error"] = _limited("float32 after ten hours", late, LIMITS["float32"])
    if "int8" in bundle.precisions:
        policy = bundle.policy("int8")
        errors = {
            name: relative_error(policy, model, rows) for name, rows in (("random", [made_up]), ("run", own)) if rows
        }
        figures["int8_relative_error"] = errors
        _limited("int8", errors.get("run", errors["random"]), LIMITS["int8"])
    return figures


def probe_of(model: Gpt) -> dict[str, np.ndarray]:
    """Frames and answers by which a policy tests itself: twice round the ring."""
    frames = random_frames(model, 2 * model.shape.window, seed=0)
    return {"observation": frames, "action": _whole(model, frames)}


def random_frames(model: Gpt, count: int, *, seed: int) -> Float32[np.ndarray, "T D"]:
    """As the student's statistics say; neighbours in time are alike, as they are in life."""
    noise = np.random.default_rng(seed).normal(size=(count, len(model.normaliser.mean)))
    for t in range(1, count):
        noise[t] = 0.8 * noise[t - 1] + 0.6 * noise[t]
    mean, deviation = (part.cpu().numpy() for part in (model.normaliser.mean, model.normaliser.deviation))
    return (mean + deviation * noise).astype(np.float32)


def run_frames(run: Path | None, model: Gpt) -> list[Float32[np.ndarray, "T D"]]:
    """Episodes of the run's last rollout, as far as its files are there."""
    if run is None or not (run / FOLDER).is_dir():
        return []
    count = 0
    while rollout_path(run, count, 0).is_file():
        count += 1
    if not count:
        return []
    rollout = read_trajectories(run, rounds=count, ranks=1)[-1]
    rows = []
    for observation, began in zip(rollout.observation[:ROWS], rollout.began[:ROWS], strict=True):
        starts = [0, *(np.flatnonzero(began[1:]) + 1), len(began)]
        lengths = np.diff(starts)
        longest = int(lengths.argmax())
        rows.append(np.array(observation[starts[longest] : starts[longest + 1]]))
    return [row for row in rows if row.shape[1] == len(model.normaliser.mean)]


def step_error(policy: StepPolicy, model: Gpt, rows: list[np.ndarray], *, start: int = 0) -> float:
    """Largest difference of an action, frame by frame against the whole at once."""
    return max(float(np.abs(streamed(policy, row, start=start) - _whole(model, row)).max()) for row in rows)


def relative_error(policy: StepPolicy, model: Gpt, rows: list[np.ndarray]) -> float:
    """‖own − student's‖ / ‖student's‖ over all rows; what the policy remembers is its own."""
    own = np.concatenate([streamed(policy, row) for row in rows])
    right = np.concatenate([_whole(model, row) for row in rows])
    return float(np.linalg.norm(own - right) / max(float(np.linalg.norm(right)), 1e-12))


def streamed(policy: StepPolicy, frames: Float32[np.ndarray, "T D"], *, start: int = 0) -> Float32[np.ndarray, "T A"]:
    """The policy's actions over one episode, whose first frame has the number `start`."""
    policy.forget()
    policy.skip_to(start)
    result = np.stack([policy.act(frame).copy() for frame in frames])
    policy.forget()
    return result


def _whole(model: Gpt, frames: Float32[np.ndarray, "T D"]) -> Float32[np.ndarray, "T A"]:
    with torch.no_grad():
        return model(torch.from_numpy(frames)[None])[0].numpy()


def _window_error(model: Gpt, bundle: PolicyBundle, frames: Float32[np.ndarray, "T D"]) -> float:
    """Of three rows, one of them whole and two padded in front."""
    window = model.shape.window
    rows = np.stack([frames[start : start + window] for start in (0, window // 2, window)])
    valid = np.arange(window) >= np.array([0, window // 3, window - 1])[:, None]
    session = open_session(bundle.folder / WINDOW, WINDOW)
    (found,) = session.run(["action"], {"observation": rows, "valid": valid})
    with torch.no_grad():
        return float(np.abs(found - model(torch.from_numpy(rows), torch.from_numpy(valid)).numpy()).max())


def _limited(what: str, error: float, limit: float) -> float:
    if not error <= limit:
        raise MotionloomError(
            f"The exported {what} does not answer as the student: its error is {error:.2g}, {limit:g} is the most. No bundle was written."
        )
    return error
