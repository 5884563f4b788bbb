"""Calls of the UNet and of a ControlNet, prepared once for their shapes and then replayed as CUDA graphs.

Without graphs (on a CPU) the same calls run kernel by kernel.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sosie.core.errors import EngineError
from sosie.diffusion.cuda_graph import CudaGraph, Tensors, form_of
from sosie.families.sdxl.diffusers.fast.constant_context import (
    ConstantContext,
    SelfAttention,
    attentions,
    scales,
    stamp,
)
from sosie.families.sdxl.diffusers.fast.parts import Attention, Denoiser

PROGRAMS = 6
"""Shapes of one model that are kept ready: size, batch, number of tokens."""

Arguments = dict[str, Any]
"""Of a call of `forward`: tensors, numbers, flags and tables of them."""


OwnAttention = Sequence[tuple[Attention, SelfAttention]]
"""Self-attention layers with the processors that replace theirs in a run."""


@dataclass(frozen=True)
class Making:
    """How programs are made.

    `pool` is the memory that graphs share, or `None` for no graphs; `kernels` is entered around every
    run that is not a graph's.
    """

    pool: Any
    kernels: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class Program:
    """One call for one shape, with its constant context and a number that tells where its weights lie."""

    graph: CudaGraph
    context: ConstantContext
    weights: int


@dataclass(frozen=True)
class ReplayInputs:
    """A call that can be replayed: constant tokens apart from what changes with the steps."""

    states: Tensor
    identity: tuple[Tensor, ...]
    inputs: Tensors
    silent: bool = False
    """Whether the answer is known to be zeros."""

    @property
    def form(self) -> tuple[object, ...]:
        """Equal for calls that one program can do."""
        tokens = {str(place): tensor for place, tensor in enumerate((self.states, *self.identity))}
        return (form_of(tokens), form_of(self.inputs))


class Replayed:
    """A model whose `forward` is replayed from `install` to `remove`.

    A call of a form that is not known here (masks, other adapters, guess mode) runs as stock diffusers
    runs it and is counted in `stock_calls`.
    """

    def __init__(self, model: Denoiser, making: Making, own_attention: OwnAttention) -> None:
        self.model = model
        self.stock: Callable[..., Any] = type(model).forward
        self.stock_calls = 0
        self.prepared = 0
        self._making = making
        self._own_attention = own_attention
        self._programs: OrderedDict[tuple[object, ...], Program] = OrderedDict()
        self._layers = [layer for _, layer in attentions(model)]

    def call(self, inputs: Tensors) -> Sequence[Tensor]:
        """What a program does: the model's own `forward` on the inputs of `understood`."""
        raise NotImplementedError

    def understood(self, given: Arguments) -> ReplayInputs | None:
        """The arguments of a call as something to replay, or `None` if it is not of a known form."""
        raise NotImplementedError

    def answer(self, outputs: tuple[Tensor, ...]) -> tuple[object, ...]:
        """A program's outputs as `forward` returns them."""
        raise NotImplementedError

    def install(self) -> None:
        """Puts the replay in the model's place."""
        self.model.forward = self._forward

    def remove(self) -> None:
        """The model's own `forward` again; the programs are dropped."""
        self.model.__dict__.pop("forward", None)
        self._programs.clear()

    def _forward(self, sample: Tensor, timestep: Tensor | float, **more: Any) -> object:
        with torch.no_grad():
            given = self.understood({**more, "sample": sample, "timestep": timestep})
            if given is None or any(isinstance(scale, list) for scale in scales(self._layers)):
                self.stock_calls += 1
                return self.stock(self.model, sample, timestep, **more)
            program = self._program(given)
            changed = program.context.update(given.states, given.identity)
            if given.silent:
                return self.answer(program.graph.zeros())
            program.graph.fill(given.inputs)
            outputs = self._replayed(program)
            if changed and program.weights != self._weights():  # looked up while the GPU works
                raise EngineError(
                    f"the weights of {type(self.model).__name__} were moved or replaced while it was accelerated",
                    "restore() before adapters or LoRAs are loaded, accelerate() after",
                )
            return self.answer(outputs)

    def _replayed(self, program: Program) -> tuple[Tensor, ...]:
        if program.graph.captured:
            return program.graph.replay()
        with self._installed(program.context):
            return program.graph.replay()

    def _program(self, given: ReplayInputs) -> Program:
        program = self._programs.get(given.form)
        if program is None:
            self._programs[given.form] = program = self._prepared(given)
            if len(self._programs) > PROGRAMS:
                self._programs.popitem(last=False)
        self._programs.move_to_end(given.form)
        return program

    def _prepared(self, given: ReplayInputs) -> Program:
        context = ConstantContext(self.model)
        context.update(given.states, given.identity)
        with self._installed(context):
            graph = CudaGraph(self.call, given.inputs, self._making.pool)
        self.prepared += 1
        return Program(graph, context, self._weights())

    @contextmanager
    def _installed(self, context: ConstantContext) -> Generator[None]:
        """The model as a run needs it: constant context, own self-attention, chosen kernels."""
        before = [layer.processor for layer, _ in self._own_attention]
        for layer, processor in self._own_attention:
            layer.set_processor(processor)
        try:
            with self._making.kernels(), context.installed():
                yield
        finally:
            for (layer, _), processor in zip(self._own_attention, before, strict=True):
                layer.set_processor(processor)

    def _weights(self) -> int:
        """A number that changes when a weight lies elsewhere or another module is in place."""
        return hash(tuple(tensor.data_ptr() for tensor in self.model.parameters()))


class ReplayedUNet(Replayed):
    """`UNet2DConditionModel.forward` as the SDXL pipelines call it."""

    def call(self, inputs: Tensors) -> Sequence[Tensor]:
        """The predicted noise, [batch, 4, height / 8, width / 8]."""
        down = [inputs[name] for name in inputs if name.startswith("down")]
        return self.stock(
            self.model,
            inputs["sample"],
            inputs["timestep"],
            encoder_hidden_states=inputs["sample"],  # not read: cross-attention has its context
            added_cond_kwargs={"text_embeds": inputs["text_embeds"], "time_ids": inputs["time_ids"]},
            down_block_additional_residuals=down or None,
            mid_block_additional_residual=inputs.get("mid"),
            return_dict=False,
        )

    def understood(self, given: Arguments) -> ReplayInputs | None:
        """Known: text, size, identity embeddings, residuals of ControlNets."""
        rest = dict(given)
        added, down, mid = (
            rest.pop(name, None)
            for name in ("added_cond_kwargs", "down_block_additional_residuals", "mid_block_additional_residual")
        )
        sample, timestep, states = rest.pop("sample"), rest.pop("timestep"), rest.pop("encoder_hidden_states", None)
        if rest.pop("return_dict", True) or any(rest.values()) or not _is_sdxl(states, added, "image_embeds"):
            return None
        if (down is None) != (mid is None):
            return None
        inputs = {**_changing(sample, timestep), "text_embeds": added["text_embeds"], "time_ids": added["time_ids"]}
        if down is not None:
            inputs |= {f"down{index}": tensor for index, tensor in enumerate(down)} | {"mid": mid}
        return ReplayInputs(states, tuple(added.get("image_embeds", ())), inputs)

    def answer(self, outputs: tuple[Tensor, ...]) -> tuple[object, ...]:
        """A copy: schedulers may keep it for their next step."""
        return (outputs[0].clone(memory_format=torch.contiguous_format),)


class ReplayedControlNet(Replayed):
    """`ControlNetModel.forward` as the SDXL pipelines call it.

    The condition image does not change with the steps, so its embedding is computed once an image.
    A scale of zero runs nothing: the residuals are zeros.
    """

    def __init__(self, model: Denoiser, making: Making, own_attention: OwnAttention) -> None:
        super().__init__(model, making, own_attention)
        self._condition: tuple[object, Tensor, Tensor] | None = (
            None  # of which image, kept alive: an id is not given twice
        )

    def call(self, inputs: Tensors) -> Sequence[Tensor]:
        """The residuals of the down blocks, then that of the mid block, times the scale."""
        residuals: tuple[list[Tensor], Tensor] = self.stock(
            self.model,
            inputs["sample"],
            inputs["timestep"],
            encoder_hidden_states=inputs["sample"],  # not read: cross-attention has its context
            controlnet_cond=inputs["condition"],
            added_cond_kwargs={"text_embeds": inputs["text_embeds"], "time_ids": inputs["time_ids"]},
            return_dict=False,
        )
        scale = inputs["scale"]
        return [(tensor.float() * scale).to(tensor.dtype) for tensor in (*residuals[0], residuals[1])]

    def understood(self, given: Arguments) -> ReplayInputs | None:
        """Known: text or identity tokens, size, a condition image, one scale."""
        rest = dict(given)
        added, image, scale = (
            rest.pop("added_cond_kwargs", None),
            rest.pop("controlnet_cond"),
            rest.pop("conditioning_scale", 1.0),
        )
        sample, timestep, states = rest.pop("sample"), rest.pop("timestep"), rest.pop("encoder_hidden_states", None)
        if rest.pop("return_dict", True) or any(rest.values()) or not _is_sdxl(states, added):
            return None
        if not isinstance(scale, (int, float)):
            return None
        inputs = {**_changing(sample, timestep), "text_embeds": added["text_embeds"], "time_ids": added["time_ids"]}
        inputs |= {"condition": self._embedding(image), "scale": _number(float(scale), sample)}
        return ReplayInputs(states, (), inputs, silent=scale == 0)

    def answer(self, outputs: tuple[Tensor, ...]) -> tuple[object, ...]:
        """The buffers themselves: the UNet copies them at once."""
        return list(outputs[:-1]), outputs[-1]

    def _embedding(self, image: Tensor) -> Tensor:
        if self._condition is None or self._condition[0] != stamp(image):
            self._condition = (stamp(image), image, self.model.controlnet_cond_embedding(image))
        return self._condition[2]

    @contextmanager
    def _installed(self, context: ConstantContext) -> Generator[None]:
        embedding = self.model.controlnet_cond_embedding
        self.model.controlnet_cond_embedding = torch.nn.Identity()
        try:
            with super()._installed(context):
                yield
        finally:
            self.model.controlnet_cond_embedding = embedding


def _changing(sample: Tensor, timestep: Tensor | float) -> dict[str, Tensor]:
    """What changes with every step; a timestep that is not on the device is made there without waiting."""
    if isinstance(timestep, Tensor) and timestep.device == sample.device:
        return {"sample": sample, "timestep": timestep}
    return {"sample": sample, "timestep": _number(float(timestep), sample)}


def _number(value: float, like: Tensor) -> Tensor:
    return torch.full((), value, dtype=torch.float32, device=like.device)


def _is_sdxl(states: object, added: Mapping[str, object] | None, *more: str) -> bool:
    """Whether text and size come as SDXL's do: [batch, tokens, channels], pooled text, six numbers."""
    known = {"text_embeds", "time_ids", *more}
    return isinstance(states, Tensor) and added is not None and {"text_embeds", "time_ids"} <= set(added) <= known
