"""ComfyUI's errors as ours: every type that its code has is one of our codes, with what to do about it.

Sources: `validate_prompt` and `validate_inputs` of its execution.py, `/prompt` of its server.py, and what
nodes raise on files that are broken or not what they should be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from sosie.core.errors import EngineError
from sosie.core.finding import Rule, RuleError
from sosie.engines.comfy.answers import Failure, Problem
from sosie.engines.comfy.server import TOKEN, Server
from sosie.files.foreign import as_line

Y001 = Rule("SOS-Y001", "error", "A ComfyUI server cannot be reached")
Y002 = Rule("SOS-Y002", "error", "A ComfyUI server wants to know who asks")
Y003 = Rule("SOS-Y003", "error", "A ComfyUI server answered something that is no answer")
Y010 = Rule("SOS-Y010", "error", "A server lacks a class of nodes")
Y011 = Rule("SOS-Y011", "error", "A server lacks a model file")
Y013 = Rule("SOS-Y013", "error", "A graph does not fit the nodes of a server")
Y014 = Rule("SOS-Y014", "error", "A node's value is out of the server's range")
Y015 = Rule("SOS-Y015", "error", "A node's own check refused its inputs")
Y017 = Rule("SOS-Y017", "error", "A server refused a request")
Y018 = Rule("SOS-Y018", "error", "An image is too large to be uploaded")
Y020 = Rule("SOS-Y020", "error", "A model file on a server is broken")
Y021 = Rule("SOS-Y021", "error", "A model file on a server is not what its place needs")
Y022 = Rule("SOS-Y022", "error", "A text encoder on a server has the wrong size")
Y023 = Rule("SOS-Y023", "error", "A server's GPU ran out of memory")
Y024 = Rule("SOS-Y024", "error", "A server could not fetch what a node wants")
Y025 = Rule("SOS-Y025", "error", "A node failed")


class ComfyError(RuleError, EngineError):
    """Something that a ComfyUI server did not do."""


class LostError(ComfyError):
    """A server that cannot be reached, now; another try may reach it."""

    def __init__(self, server: Server, why: str) -> None:
        hint = "check that ComfyUI runs there, and the address"
        super().__init__(Y001, f"server {server.name} cannot be reached: {why}", hint)


class NonsenseError(ComfyError):
    """A server that answers what no ComfyUI does: too much, no JSON, no image."""

    def __init__(self, server: Server, what: str) -> None:
        hint = "check that the address is a ComfyUI server's and not another program's"
        super().__init__(Y003, f"server {server.name} {what}", hint)


class OutOfMemoryError(ComfyError):
    """The server's GPU has too little memory for this graph."""


class StoppedError(Exception):
    """Raised inside a run when no one waits for it any more; never shown."""


PROBLEMS: Mapping[str, Rule] = MappingProxyType(
    {
        "missing_node_type": Y010,
        "value_not_in_list": Y011,
        "required_input_missing": Y013,
        "bad_linked_input": Y013,
        "return_type_mismatch": Y013,
        "invalid_input_type": Y013,
        "invalid_dynamic_input": Y013,
        "dependency_cycle": Y013,
        "exception_during_validation": Y013,
        "exception_during_inner_validation": Y013,
        "value_smaller_than_min": Y014,
        "value_bigger_than_max": Y014,
        "custom_validation_failed": Y015,
        "no_prompt": Y017,
        "invalid_prompt": Y017,
        "invalid_prompt_id": Y017,
        "prompt_no_outputs": Y013,
        "prompt_outputs_failed_validation": Y013,
    }
)
"""The types of errors that ComfyUI answers to a graph. Another type, of a later version, is SOS-Y017."""

FAILURES: tuple[tuple[str, Rule], ...] = (
    (r"OutOfMemory|out of memory|ran out of memory on your GPU|alloc_failed", Y023),
    (r"SafetensorError|header too large|incomplete metadata|UnpicklingError|PytorchStreamReader", Y020),
    (r"Could not detect model type|does not contain a valid|Invalid (?:T5|CLIP)|is not a valid model", Y021),
    (r"size mismatch for|Error\(s\) in loading state_dict|shape '\[[\d, ]+\]' is invalid", Y021),
    (r"normalized_shape=|mat1 and mat2 shapes", Y022),
    (r"ConnectionError|URLError|Max retries exceeded|getaddrinfo|'detection' in self\.models", Y024),
    (r"FileNotFoundError|No such file or directory", Y011),
    (r"DependencyCycleError|NodeNotFoundError|NodeInputError", Y013),
)
"""What the type and text of an exception say, by their first match; anything else is SOS-Y025."""

HINTS: Mapping[Rule, str] = MappingProxyType(
    {
        Y010: "install the pack that brings it (ComfyUI-Manager), and restart the server",
        Y011: "put the file into the server's model folder, and press R in ComfyUI",
        Y013: "update ComfyUI and its packs, or the graph",
        Y014: "set a value that the node takes",
        Y015: "read the node's own words above",
        Y017: "update ComfyUI, or tell us the message",
        Y018: "start ComfyUI with a higher --max-upload-size; behind nginx, raise client_max_body_size",
        Y020: "copy or download the file on the server again: sosie doctor FILE says what is wrong with it",
        Y021: "check the file on the server: sosie doctor FILE",
        Y022: "give the loader the encoder that the model was made with: sosie doctor comfy:URL --recipe R",
        Y023: "free the GPU, use a smaller size, or start ComfyUI with --lowvram",
        Y024: "put the files where the node looks for them; the server could not fetch them itself",
        Y025: "the server's log has the traceback",
    }
)


def problem_rule(kind: str) -> Rule:
    """The rule of one of ComfyUI's types of error."""
    return PROBLEMS.get(kind, Y017)


def refused(server: Server, problems: Iterable[Problem]) -> ComfyError:
    """The error for a graph that `/prompt` took in part or not at all; every problem counts, three are told."""
    found = list(problems)
    if not found:
        return ComfyError(Y017, f"server {server.name} refused the graph and does not say why", "see its log")
    told = "; ".join(f"{problem.kind} {problem.node}: {problem.text}".strip(": ") for problem in found[:3])
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    rule = problem_rule(found[0].type)
    return ComfyError(rule, f"server {server.name} cannot run the graph: {told}{more}", HINTS[rule])


def failure_rule(failure: Failure) -> Rule:
    """The rule of what a node raised."""
    text = f"{failure.type} {failure.message}"
    return next((rule for pattern, rule in FAILURES if re.search(pattern, text)), Y025)


def failed(server: Server, failure: Failure, files: Sequence[str] = ()) -> ComfyError:
    """The error for a node that raised; lack of memory is one of its own, which may be tried again.

    `files` are those that the node was to load.
    """
    rule = failure_rule(failure)
    said = failure.message or failure.type or "it does not say why"
    kind = OutOfMemoryError if rule == Y023 else ComfyError
    loading = f" to load {', '.join(as_line(file, 80) for file in files)}" if files else ""
    return kind(rule, f"server {server.name}: {failure.label} failed{loading}: {said}", HINTS[rule])


def refused_status(server: Server, what: str, status: int, said: str) -> ComfyError:
    """The error for an HTTP status that says no. `said` is the start of the body, cleaned."""
    answers = f"answered {status} for {what}" + (f": {said[:120]}" if said else "")
    answered = f"server {server.name} {answers}"
    if status in (401, 403, 407):
        # ComfyUI itself answers 403, with an empty body, to a foreign Origin only; Sosie sends none.
        sent = f"check {TOKEN}" if server.token else f"if it stands behind a proxy, export {TOKEN}=..."
        return ComfyError(Y002, answered, sent)
    if status == 413:
        return too_large(server, answers)
    if status in (408, 425, 429, 502, 503, 504):
        return LostError(server, f"it answered {status} for {what}")
    if 300 <= status < 400:
        return NonsenseError(server, f"redirects {what} to another address, which Sosie does not follow")
    return ComfyError(Y017, answered, HINTS[Y017])


def too_large(server: Server, what: str) -> ComfyError:
    """The error for an image of which a server, or a proxy before it, takes no more; `what` it says or did."""
    return ComfyError(Y018, f"server {server.name} {what}", HINTS[Y018])
