"""ComfyUI's errors as ours: every type that its code has is one of our codes, with what to do about it.

Sources: `validate_prompt` and `validate_inputs` of its execution.py, `/prompt` of its server.py, and what
nodes raise on files that are broken or not what they should be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from sosie.core.errors import EngineError
from sosie.engines.comfy.answers import Failure, Problem
from sosie.engines.comfy.server import TOKEN, Server
from sosie.files.foreign import as_line


class ComfyError(EngineError):
    """Something that a ComfyUI server did not do; `code` is a finding's (SOS-Y...)."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


class LostError(ComfyError):
    """A server that cannot be reached, now; another try may reach it."""

    def __init__(self, server: Server, why: str) -> None:
        hint = "check that ComfyUI runs there, and the address"
        super().__init__("SOS-Y001", f"server {server.name} cannot be reached: {why}", hint)


class NonsenseError(ComfyError):
    """A server that answers what no ComfyUI does: too much, no JSON, no image."""

    def __init__(self, server: Server, what: str) -> None:
        hint = "check that the address is a ComfyUI server's and not another program's"
        super().__init__("SOS-Y003", f"server {server.name} {what}", hint)


class OutOfMemoryError(ComfyError):
    """The server's GPU has too little memory for this graph."""


class StoppedError(Exception):
    """Raised inside a run when nobody waits for it any more; never shown."""


PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        "missing_node_type": "SOS-Y010",
        "value_not_in_list": "SOS-Y011",
        "required_input_missing": "SOS-Y013",
        "bad_linked_input": "SOS-Y013",
        "return_type_mismatch": "SOS-Y013",
        "invalid_input_type": "SOS-Y013",
        "invalid_dynamic_input": "SOS-Y013",
        "dependency_cycle": "SOS-Y013",
        "exception_during_validation": "SOS-Y013",
        "exception_during_inner_validation": "SOS-Y013",
        "value_smaller_than_min": "SOS-Y014",
        "value_bigger_than_max": "SOS-Y014",
        "custom_validation_failed": "SOS-Y015",
        "no_prompt": "SOS-Y017",
        "invalid_prompt": "SOS-Y017",
        "invalid_prompt_id": "SOS-Y017",
        "prompt_no_outputs": "SOS-Y013",
        "prompt_outputs_failed_validation": "SOS-Y013",
    }
)
"""The types of errors that ComfyUI answers to a graph. Another type, of a later version, is SOS-Y017."""

FAILURES: tuple[tuple[str, str], ...] = (
    (r"OutOfMemory|out of memory|ran out of memory on your GPU|alloc_failed", "SOS-Y023"),
    (r"SafetensorError|header too large|incomplete metadata|UnpicklingError|PytorchStreamReader", "SOS-Y020"),
    (r"Could not detect model type|does not contain a valid|Invalid (?:T5|CLIP)|is not a valid model", "SOS-Y021"),
    (r"size mismatch for|Error\(s\) in loading state_dict|shape '\[[\d, ]+\]' is invalid", "SOS-Y021"),
    (r"normalized_shape=|mat1 and mat2 shapes", "SOS-Y022"),
    (r"ConnectionError|URLError|Max retries exceeded|getaddrinfo|'detection' in self\.models", "SOS-Y024"),
    (r"FileNotFoundError|No such file or directory", "SOS-Y011"),
    (r"DependencyCycleError|NodeNotFoundError|NodeInputError", "SOS-Y013"),
)
"""What the type and text of an exception say, by their first match; anything else is SOS-Y025."""

HINTS: Mapping[str, str] = MappingProxyType(
    {
        "SOS-Y010": "install the pack that brings it (ComfyUI-Manager), and restart the server",
        "SOS-Y011": "put the file into the server's model folder, and press R in ComfyUI",
        "SOS-Y013": "update ComfyUI and its packs, or the graph",
        "SOS-Y014": "set a value that the node takes",
        "SOS-Y015": "read the node's own words above",
        "SOS-Y017": "update ComfyUI, or tell us the message",
        "SOS-Y018": "start ComfyUI with a higher --max-upload-size; behind nginx, raise client_max_body_size",
        "SOS-Y020": "copy or download the file on the server again: sosie doctor FILE says what is wrong with it",
        "SOS-Y021": "check the file on the server: sosie doctor FILE",
        "SOS-Y022": "give the loader the encoder that the model was made with: sosie doctor comfy:URL --recipe R",
        "SOS-Y023": "free the GPU, use a smaller size, or start ComfyUI with --lowvram",
        "SOS-Y024": "put the files where the node looks for them; the server could not fetch them itself",
        "SOS-Y025": "the server's log has the traceback",
    }
)


def problem_code(kind: str) -> str:
    """The code of one of ComfyUI's types of error."""
    return PROBLEMS.get(kind, "SOS-Y017")


def refused(server: Server, problems: Iterable[Problem]) -> ComfyError:
    """The error for a graph that `/prompt` took in part or not at all; every problem counts, three are told."""
    found = list(problems)
    if not found:
        return ComfyError("SOS-Y017", f"server {server.name} refused the graph and does not say why", "see its log")
    told = "; ".join(f"{problem.kind} {problem.node}: {problem.text}".strip(": ") for problem in found[:3])
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    code = problem_code(found[0].type)
    return ComfyError(code, f"server {server.name} cannot run the graph: {told}{more}", HINTS[code])


def failure_code(failure: Failure) -> str:
    """The code of what a node raised."""
    text = f"{failure.type} {failure.message}"
    return next((code for pattern, code in FAILURES if re.search(pattern, text)), "SOS-Y025")


def failed(server: Server, failure: Failure, files: Sequence[str] = ()) -> ComfyError:
    """The error for a node that raised; lack of memory is one of its own, which may be tried again.

    `files` are those that the node was to load.
    """
    code = failure_code(failure)
    said = failure.message or failure.type or "it does not say why"
    kind = OutOfMemoryError if code == "SOS-Y023" else ComfyError
    loading = f" to load {', '.join(as_line(file, 80) for file in files)}" if files else ""
    return kind(code, f"server {server.name}: {failure.label} failed{loading}: {said}", HINTS[code])


def refused_status(server: Server, what: str, status: int, said: str) -> ComfyError:
    """The error for an HTTP status that says no. `said` is the start of the body, cleaned."""
    answers = f"answered {status} for {what}" + (f": {said[:120]}" if said else "")
    answered = f"server {server.name} {answers}"
    if status in (401, 403, 407):
        # ComfyUI itself answers 403, with an empty body, to a foreign Origin only; Sosie sends none.
        sent = f"check {TOKEN}" if server.token else f"if it stands behind a proxy, export {TOKEN}=..."
        return ComfyError("SOS-Y002", answered, sent)
    if status == 413:
        return too_large(server, answers)
    if status in (408, 425, 429, 502, 503, 504):
        return LostError(server, f"it answered {status} for {what}")
    if 300 <= status < 400:
        return NonsenseError(server, f"redirects {what} to another address, which Sosie does not follow")
    return ComfyError("SOS-Y017", answered, HINTS["SOS-Y017"])


def too_large(server: Server, what: str) -> ComfyError:
    """The error for an image of which a server, or a proxy before it, takes no more; `what` it says or did."""
    return ComfyError("SOS-Y018", f"server {server.name} {what}", HINTS["SOS-Y018"])
