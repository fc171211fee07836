"""ONNX Runtime on one thread: equal inputs give equal bits, and no other program's threads are in the way."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from corpus.errors import MotionloomError


def open_session(model: Path | bytes, name: str) -> Any:
    """An `InferenceSession` on the CPU; raises `MotionloomError`, which calls the model by its `name`, where it cannot be run."""
    try:
        import onnxruntime
    except ImportError:
        raise MotionloomError("ONNX models need onnxruntime: pip install 'motionloom[deploy]'.") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they are raised as well
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except refusals() as error:
        raise MotionloomError(f"{name} cannot be run: {' '.join(str(error).split())}") from None


def refusals() -> tuple[type[Exception], ...]:
    """What onnxruntime raises where it cannot read or run a model."""
    state: Any = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    names = (
        "Fail",
        "InvalidGraph",
        "InvalidProtobuf",
        "InvalidArgument",
        "NotImplemented",
        "NoSuchFile",
        "RuntimeException",
    )
    return (RuntimeError, TypeError, ValueError, *(getattr(state, name) for name in names))
