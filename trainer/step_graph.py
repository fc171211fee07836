"""The student as ONNX graphs: one frame with the caches as inputs, and a whole window without any state.

    write_step(model, Path("step.onnx"), about)        # observation, keys, values, seen, position → action, new_keys, new_values
    write_window(model, Path("window.onnx"), about)    # observation (B, K, D), valid (B, K) → action (B, K, A)
    write_int8(Path("step.onnx"), Path("step-int8.onnx"), about)

`StepGraph` gives the numbers of `Gpt.step_with` for one robot, laid out so that a runtime copies little: past and new keys are
multiplied separately, and the ring is never joined with the newest frame.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from corpus.errors import MotionloomError
from deploy.bundle import STEP_INPUTS, STEP_OUTPUTS
from trainer.block import Block, turn_of
from trainer.gpt import Gpt

OPSET = 20
"""The first with Gelu as one operator."""
INT8_BLOCK = 128
"""Numbers of a weight's column that share a scale. Fewer are nearer to float32, and slower."""
HIDDEN = -1e30
"""Score of a place that is not seen; infinity would make what is not a number of a row without any."""


class StepGraph(nn.Module):
    """`Gpt.step_with` of one robot."""

    def __init__(self, model: Gpt):
        super().__init__()
        if model.tokens is not None:
            raise MotionloomError("A student with a token head cannot be exported yet.")
        self.model = model

    def forward(
        self,
        observation: Float[Tensor, "1 D"],
        keys: Float[Tensor, "L 1 H P E"],
        values: Float[Tensor, "L 1 H P E"],
        seen: Bool[Tensor, "1 P"],
        position: Int[Tensor, " 1"],
    ) -> tuple[Float[Tensor, "1 A"], Float[Tensor, "L 1 H E"], Float[Tensor, "L 1 H E"]]:
        model = self.model
        turn = _turning(position, model.shape.channels)
        hidden = F.pad(torch.where(seen, 0.0, HIDDEN), (0, 1))
        x = model.embed(model.normaliser(observation))
        new = []
        for block, *past in zip(model.blocks, keys.split(1), values.split(1), strict=True):
            assert isinstance(block, Block)
            told, key, value = _attended(block, x, turn, hidden, *past)
            x = x + block.out(told)
            x = x + block.narrow(F.gelu(block.widen(block.mlp_norm(x))))
            new.append((key, value))
        new_keys, new_values = (torch.cat(part).squeeze(3) for part in zip(*new, strict=True))
        return model.head(model.last_norm(x)), new_keys, new_values


def _turning(position: Int[Tensor, " 1"], channels: int) -> Float[Tensor, "E E"]:
    """The turn of a place as a matrix: one product in place of five operators, in every layer."""
    cos, signed_sin = (part.reshape(1, channels) for part in turn_of(position, channels))
    same = torch.eye(channels)
    return same * cos + same.roll(channels // 2, 0) * signed_sin


def _attended(
    block: Block,
    x: Float[Tensor, "1 C"],
    turn: Float[Tensor, "E E"],
    hidden: Float[Tensor, "1 P+1"],
    keys: Float[Tensor, "1 1 H P E"],
    values: Float[Tensor, "1 1 H P E"],
) -> tuple[Float[Tensor, "1 C"], Float[Tensor, "1 1 H 1 E"], Float[Tensor, "1 1 H 1 E"]]:
    """What the frames tell this one, and its own key and value; as `Block` computes it."""
    heads, channels = block.heads, turn.shape[0]
    qkv = block.qkv(block.attention_norm(x)).reshape(1, 1, 3 * heads, 1, channels)
    both, value = qkv[:, :, : 2 * heads] @ turn, qkv[:, :, 2 * heads :]
    query, key = both[:, :, :heads] * channels**-0.5, both[:, :, heads:]
    scores = torch.cat([query @ keys.transpose(-1, -2), query @ key.transpose(-1, -2)], -1)
    share = (scores + hidden).softmax(-1)
    told = share[..., :-1] @ values + share[..., -1:] * value
    return told.reshape(1, -1), key, value


def write_step(model: Gpt, path: Path, about: Mapping[str, str]) -> None:
    """One frame, for one robot: all shapes are fixed."""
    cache = model.new_cache(1)
    observation = model.normaliser.mean[None].clone()
    inputs = (observation, cache.keys, cache.values, cache.seen, torch.tensor([0]))
    _write(StepGraph(model), inputs, STEP_INPUTS, STEP_OUTPUTS, path, about)


def write_window(model: Gpt, path: Path, about: Mapping[str, str]) -> None:
    """`Gpt.forward`; how many robots and frames is open. Frames that are not valid are seen by none."""
    frames = model.shape.window
    observation = model.normaliser.mean.expand(2, frames, -1).clone()
    inputs = (observation, torch.ones(2, frames, dtype=torch.bool))
    robots, length = torch.export.Dim("robots"), torch.export.Dim("frames", min=2)
    shapes = ({0: robots, 1: length}, {0: robots, 1: length})
    _write(model, inputs, ("observation", "valid"), ("action",), path, about, shapes)


def write_int8(source: Path, path: Path, about: Mapping[str, str]) -> list[str]:
    """The step with int8 weights: each block of a column has a scale of its own, and so has each block of what is multiplied by it.

    The first and the last layer stay in float32; their names are returned. Needs onnxruntime 1.22 to run, on ARM 1.23.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    model = onnx.load(source)
    ONNXModel(model).replace_gemm_with_matmul()  # turns the weights
    del model.graph.value_info[:]  # so that what was said of their shapes is no longer true
    weights = {tensor.name for tensor in model.graph.initializer}
    products = [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    embed, head = products[0], products[-1]
    quantiser = MatMulNBitsQuantizer(
        model, bits=8, block_size=INT8_BLOCK, is_symmetric=True, accuracy_level=4, nodes_to_exclude=[embed, head]
    )
    with _quiet():
        quantiser.process()
    result: Any = quantiser.model
    del result.model.metadata_props[:]
    onnx.helper.set_model_props(result.model, dict(about))
    onnx.save(result.model, path)
    return ["embed", "head"]


def _write(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: tuple[str, ...],
    outputs: tuple[str, ...],
    path: Path,
    about: Mapping[str, str],
    shapes: tuple[dict, ...] | None = None,
) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise MotionloomError(
            f"Exporting needs onnx and onnxscript ({error}): pip install 'motionloom[export]'."
        ) from None
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(), inputs, dynamo=True, input_names=names, output_names=outputs, dynamic_shapes=shapes,
            opset_version=OPSET, verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(about))
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells at length of what concerns other models."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
