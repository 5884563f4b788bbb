"""Calls of the UNet and of a ControlNet, prepared once for their shapes and then replayed.

A `Program` owns the buffers of one call: inputs are copied in, one CUDA graph runs every kernel, and
outputs stand in buffers outside the graph's memory, so that graphs may share that memory. Without a
graph (on a CPU) the same call runs kernel by kernel.

Only `acceleration` imports this module (it imports torch).
"""

from __future__ import annotations

import importlib
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from sosie.core.errors import EngineError
from sosie.families.sdxl.diffusers.fast.constant_context import ConstantContext, attentions, scales, stamp

torch: Any = importlib.import_module("torch")

PROGRAMS = 6
"""Shapes of one model that are kept ready: size, batch, number of tokens."""

WARM_UPS = 3
"""Runs before a capture: compiling, choosing algorithms, then one that does neither."""

Call = Callable[..., Sequence[Any]]


@dataclass
class Clock:
    """What preparing cost so far: seconds, and how many programs were made."""

    seconds: float = 0.0
    programs: int = 0


@dataclass(frozen=True)
class Means:
    """How programs are made.

    `pool` is the memory that graphs share, or `None` for no graphs; `kernels` is entered around every
    run that is not a graph's.
    """

    pool: Any
    kernels: Callable[[], AbstractContextManager[None]]
    clock: Clock = field(default_factory=Clock)


class Program:
    """One call for one shape: `inputs` and `outputs` are tensors whose addresses stay."""

    def __init__(self, context: ConstantContext, inputs: Mapping[str, Any], weights: int) -> None:
        self.context = context
        self.weights = weights
        self._inputs = {name: torch.empty_like(tensor) for name, tensor in inputs.items()}
        self._outputs: tuple[Any, ...] = ()
        self._call: Call | None = None
        self._graph: Any = None

    @property
    def captured(self) -> bool:
        """Whether a graph does the call."""
        return self._graph is not None

    def prepare(self, call: Call, pool: Any) -> None:
        """Makes `call(**inputs)` what `replay` does, as a graph if there is a `pool` for it."""
        self._call = call
        if pool is None:
            self._run(call)
            return
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._run(call)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._run(call)
        self._graph = graph

    def fill(self, inputs: Mapping[str, Any]) -> None:
        """Copies the inputs into their buffers."""
        for name, buffer in self._inputs.items():
            buffer.copy_(inputs[name])

    def replay(self) -> tuple[Any, ...]:
        """The outputs for the inputs in the buffers; the next replay overwrites them."""
        if self._graph is not None:
            self._graph.replay()
        elif self._call is not None:
            self._run(self._call)
        return self._outputs

    def zeros(self) -> tuple[Any, ...]:
        """Zeros in the shape of the outputs."""
        return tuple(torch.zeros_like(tensor) for tensor in self._outputs)

    def _run(self, call: Call) -> None:
        made = call(**self._inputs)
        if not self._outputs:
            self._outputs = tuple(torch.empty_like(tensor) for tensor in made)
        for kept, tensor in zip(self._outputs, made, strict=True):
            kept.copy_(tensor)


@dataclass(frozen=True)
class Given:
    """A call that can be replayed: constant tokens apart from what changes with the steps."""

    states: Any
    identity: tuple[Any, ...]
    inputs: Mapping[str, Any]
    silent: bool = False
    """Whether the answer is known to be zeros."""

    @property
    def form(self) -> tuple[object, ...]:
        """Equal for calls that one program can do."""
        tensors = (self.states, *self.identity, *self.inputs.values())
        return (len(self.identity), *self.inputs, *((tuple(t.shape), t.dtype) for t in tensors))


class Replayed:
    """A model whose `forward` is replayed from `install` to `remove`.

    `own_attention` pairs self-attention layers with the processors that replace theirs in a run. A
    call of a form that is not known here (masks, other adapters, guess mode) runs as stock diffusers
    runs it and is counted in `stock_calls`.
    """

    def __init__(self, model: Any, means: Means, own_attention: Sequence[tuple[Any, Any]]) -> None:
        self.model = model
        self.stock: Any = model.__class__.forward
        self.stock_calls = 0
        self._means = means
        self._own_attention = own_attention
        self._programs: OrderedDict[tuple[object, ...], Program] = OrderedDict()
        self._layers = [layer for _, layer in attentions(model)]

    def call(self, **inputs: Any) -> Sequence[Any]:
        """What a program does: the model's own `forward` on the inputs of `understood`."""
        raise NotImplementedError

    def understood(self, given: Mapping[str, Any]) -> Given | None:
        """The arguments of a call as something to replay, or `None` if it is not of a known form."""
        raise NotImplementedError

    def answer(self, outputs: tuple[Any, ...]) -> Any:
        """A program's outputs as `forward` returns them."""
        raise NotImplementedError

    def install(self) -> None:
        """Puts the replay in the model's place."""
        self.model.forward = self._forward

    def remove(self) -> None:
        """The model's own `forward` again; the programs are dropped."""
        self.model.__dict__.pop("forward", None)
        self._programs.clear()

    def _forward(self, sample: Any, timestep: Any, **more: Any) -> Any:
        with torch.no_grad():
            given = self.understood({**more, "sample": sample, "timestep": timestep})
            if given is None or any(isinstance(scale, list) for scale in scales(self._layers)):
                self.stock_calls += 1
                return self.stock(self.model, sample, timestep, **more)
            program = self._program(given)
            changed = program.context.update(given.states, given.identity)
            if given.silent:
                return self.answer(program.zeros())
            program.fill(given.inputs)
            outputs = self._replayed(program)
            if changed and program.weights != self._weights():  # looked up while the GPU works
                raise EngineError(
                    f"the weights of {type(self.model).__name__} were moved or replaced while it was accelerated",
                    "restore() before adapters or LoRAs are loaded, accelerate() after",
                )
            return self.answer(outputs)

    def _replayed(self, program: Program) -> tuple[Any, ...]:
        if program.captured:
            return program.replay()
        with self._installed(program):
            return program.replay()

    def _program(self, given: Given) -> Program:
        program = self._programs.get(given.form)
        if program is None:
            self._programs[given.form] = program = self._prepared(given)
            if len(self._programs) > PROGRAMS:
                self._programs.popitem(last=False)
        self._programs.move_to_end(given.form)
        return program

    def _prepared(self, given: Given) -> Program:
        started = time.monotonic()
        context = ConstantContext(self.model)
        context.update(given.states, given.identity)
        program = Program(context, given.inputs, self._weights())
        program.fill(given.inputs)
        with self._installed(program):
            program.prepare(self.call, self._means.pool)
        if program.captured:
            torch.cuda.synchronize()
        self._means.clock.seconds += time.monotonic() - started
        self._means.clock.programs += 1
        return program

    @contextmanager
    def _installed(self, program: Program) -> Generator[None]:
        """The model as a run needs it: constant context, own self-attention, chosen kernels."""
        before = [layer.processor for layer, _ in self._own_attention]
        for layer, processor in self._own_attention:
            layer.set_processor(processor)
        try:
            with self._means.kernels(), program.context.installed():
                yield
        finally:
            for (layer, _), processor in zip(self._own_attention, before, strict=True):
                layer.set_processor(processor)

    def _weights(self) -> int:
        """A number that changes when a weight lies elsewhere or another module is in place."""
        return hash(tuple(tensor.data_ptr() for tensor in self.model.parameters()))


class ReplayedUNet(Replayed):
    """`UNet2DConditionModel.forward` as the SDXL pipelines call it."""

    def call(self, **inputs: Any) -> Sequence[Any]:
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

    def understood(self, given: Mapping[str, Any]) -> Given | None:
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
        return Given(states, tuple(added.get("image_embeds", ())), inputs)

    def answer(self, outputs: tuple[Any, ...]) -> Any:
        """A copy: schedulers may keep it for their next step."""
        return (outputs[0].clone(memory_format=torch.contiguous_format),)


class ReplayedControlNet(Replayed):
    """`ControlNetModel.forward` as the SDXL pipelines call it.

    The condition image does not change with the steps, so its embedding is computed once an image.
    A scale of zero runs nothing: the residuals are zeros.
    """

    def __init__(self, model: Any, means: Means, own_attention: Sequence[tuple[Any, Any]]) -> None:
        super().__init__(model, means, own_attention)
        self._condition: tuple[object, Any, Any] = (None, None, None)

    def call(self, **inputs: Any) -> Sequence[Any]:
        """The residuals of the down blocks, then that of the mid block, times the scale."""
        residuals: tuple[list[Any], Any] = self.stock(
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

    def understood(self, given: Mapping[str, Any]) -> Given | None:
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
        return Given(states, (), inputs, silent=scale == 0)

    def answer(self, outputs: tuple[Any, ...]) -> Any:
        """The buffers themselves: the UNet copies them at once."""
        return list(outputs[:-1]), outputs[-1]

    def _embedding(self, image: Any) -> Any:
        if self._condition[0] != stamp(image):
            embedding = self.model.controlnet_cond_embedding(image)
            self._condition = (stamp(image), image, embedding)
        return self._condition[2]

    @contextmanager
    def _installed(self, program: Program) -> Generator[None]:
        embedding = self.model.controlnet_cond_embedding
        self.model.controlnet_cond_embedding = torch.nn.Identity()
        try:
            with super()._installed(program):
                yield
        finally:
            self.model.controlnet_cond_embedding = embedding


def _changing(sample: Any, timestep: Any) -> dict[str, Any]:
    """What changes with every step; a timestep that is not on the device is made there without waiting."""
    there = torch.is_tensor(timestep) and timestep.device == sample.device
    return {"sample": sample, "timestep": timestep if there else _number(float(timestep), sample)}


def _number(value: float, like: Any) -> Any:
    return torch.full((), value, dtype=torch.float32, device=like.device)


def _is_sdxl(states: Any, added: Any, *more: str) -> bool:
    """Whether text and size come as SDXL's do: [batch, tokens, channels], pooled text, six numbers."""
    known = {"text_embeds", "time_ids", *more}
    return torch.is_tensor(states) and added is not None and {"text_embeds", "time_ids"} <= set(added) <= known
