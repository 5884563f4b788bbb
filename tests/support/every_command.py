"""Every command of the parser with every kind of bad input: a command that is added is asked too.

`calls` varies one argument at a time of a call that is right otherwise; `spoilers` spoil a file of the workspace that
commands read by themselves.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from places import EXAMPLES

RIGHT: dict[str, dict[str, tuple[str, ...]]] = {
    "new": {"character": ("nora",), "images": (str(EXAMPLES / "00.jpg"),), "": ("--adult", "--likeness", "fictional")},
    "generate": {"character": ("mira",), "prompt": ("x",), "": ("--engine", "nothing")},
    "score": {"images": (str(EXAMPLES / "00.jpg"),), "": ("--character", "mira")},
    "calibrate": {"character": ("mira",), "": ("--engine", "nothing")},
    "dataset build": {"character": ("mira",), "": ("--recipe", "mini", "--from", "nothing")},
    "dataset caption": {"character": ("mira",)},
    "dataset check": {"character": ("mira",)},
    "train": {"characters": ("mira",), "": ("--recipe", "hybrid")},
    "experiment new": {"name": ("cfg",), "": ("--character", "mira")},
    "experiment run": {"file": ("cfg.toml",), "": ("--engine", "nothing")},
    "experiment resume": {"name": ("cfg",)},
    "experiment report": {"name": ("cfg",)},
    "recipe copy": {"name": ("mini",), "new_name": ("own",)},
    "recipe show": {"name": ("mini",)},
    "model add": {"folder": ("x",)},
    "model convert": {"path": ("x.pth",)},
    "model fetch": {"what": ("x",)},
    "model show": {"names": ("mini",)},
    "model strip": {"model": ("x.safetensors",), "out": ("out.json",)},
    "character edit": {"character": ("mira",), "": ("--description", "x")},
    "character export": {"character": ("mira",), "file": ("x.sosie",)},
    "character import": {"file": ("x.sosie",)},
    "lora add": {"character": ("mira",), "file": ("x.safetensors",)},
    "lora convert": {"name": ("x.safetensors",), "out": ("y.safetensors",), "": ("--to", "diffusers")},
    "lora show": {"names": ("x.safetensors",)},
    "compare": {"a": (str(EXAMPLES / "00.jpg"),), "b": (str(EXAMPLES / "01.jpg"),)},
    "panel new": {"name": ("likeness",), "cells": (str(EXAMPLES), str(EXAMPLES)), "": ("--character", "mira")},
    "panel serve": {"name": ("nothing",)},
    "panel report": {"name": ("nothing",)},
    "job add": {"kind": ("generate",), "request": ('{"character": "nobody"}',)},
    "job cancel": {"number": ("1",)},
    "job continue": {"number": ("1",)},
    "job move": {"number": ("1",)},
    "image mark": {"images": ("0" * 64,), "": ("--as", "keep")},
    "studio": {"": ("--listen", "nowhere", "--no-browser")},
    "comfy record": {"url": ("http://127.0.0.1:1",)},
    "audit": {"character": ("mira",)},
    "decide new": {"title": ("x",), "": ("--proposed",)},
    "decide accept": {"id_": ("D1",), "": ("--without-evidence", "x")},
    "decide show": {"id_": ("D1",)},
    "note add": {"text": ("x",)},
    "note tried": {"component": ("x",), "": ("--result", "x", "--outcome", "works")},
    "note rented": {"label": ("x",), "": ("--gpu", "x", "--price", "1")},
    "task add": {"title": ("x",)},
    "task set": {"id_": ("T1",), "": ("--state", "done")},
    "verify": {"images": (str(EXAMPLES / "00.jpg"),)},
}
"""What a command needs to be right otherwise: its arguments, and under `""` options. Others need nothing.

Options are such that nothing is drawn or downloaded.
"""

INSTEAD: dict[str, dict[str, tuple[str, ...]]] = {
    "dataset build": {
        "folder": (), "urls": (), "base_url": ("--urls", "nothing.txt"), "n": ("--engine", "nothing"),
        "engine": ("--recipe", "mini", "--bootstrap", "1"),
    }
}  # fmt: skip
"""What a command needs in place of `RIGHT`'s options while one of its options is varied: they would end it before."""

FREE = ("prompt", "negative_prompt", "description", "trigger", "marks")
"""Arguments in which every text is right."""

WORDS = {
    "an empty word": "",
    "terminal escapes": "a\x1b[2J\x9b\u202eb\nerror: x",
    "5,000 letters": "a" * 5000,
    "a path upwards": "../../x",
    "an address cut off": "http://[::1",
    "an address with a port too high": "comfy:http://anna:pw@h:99999/x?token=y",
    "an address with a NUL": "http://127.0.0.1:1/\0",
    "an address for ssh": "comfy+ssh://anna:pw@127.0.0.1:1/x?port=x",
    "bytes that are not UTF-8": "a\udcff",
    "a NUL": "a\0b",
    "digits of another script": "\u0663",
    "a quote left open": '"{image}',
    "braces": "{x} {0} {image!r:>{w}}",
    "5,000 digits": "9" * 5000,
    "nan": "nan",
    "1e999": "1e999",
    "below zero": "-1",
    "brackets": "[" * 2000,
}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its words."""
    from sosie.cli.group import cli

    yield from _below(cli, "")


def _below(command: click.Command, words: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield words.strip(), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from _below(found, f"{words} {name}")


def bad_files(folder: Path) -> dict[str, Path]:
    """Files of every kind that is wrong wherever a file is read, made in `folder`; of each what it is."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        f"{kind} as {name}": _written(folder / f"{index:02d}{kind}", content)
        for index, (name, content) in enumerate(_contents().items())
        for kind in _suffixes(name)
    }
    made |= {"no file": folder / "absent.txt", "a folder": folder / "folder.png", "a NUL": folder / "a\0b.txt"}
    made["a folder"].mkdir(exist_ok=True)
    made |= {"a long name": folder / ("x" * 300), "a long path": folder / "/".join(["y" * 200] * 30)}
    made["no UTF-8 in its name"] = folder / "a\udcff.png"
    if sys.platform != "win32":
        if not (folder / "pipe.jsonl").exists():
            os.mkfifo(folder / "pipe.jsonl")
        if not (folder / "circle.toml").is_symlink():
            (folder / "circle.toml").symlink_to("circle.toml")
        made |= {"a pipe": folder / "pipe.jsonl", "a link to itself": folder / "circle.toml"}
        made |= {"a device": Path("/dev/zero"), "a terminal": Path("/dev/tty")}
    return made


def _contents() -> dict[str, bytes]:
    zeros = zlib.compress(bytes(1 << 20), 9)
    ihdr = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return {
        "nothing": b"",
        "noise": bytes(range(256)) * 8,
        "UTF-16": "größe = 1".encode("utf-16"),
        "Latin-1": "größe = 1".encode("latin-1"),
        "a JSON of 1,000 levels": b"[" * 1000 + b"]" * 1000,
        "a JSON of 100,000 levels cut off": b'{"a":' * 100_000,
        "a JSON of 5,000 digits": b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}",
        "a JSON of NaN": b'{"prompt": "x", "seed": NaN, "size": 1e999, "1": {"class_type": "X", "inputs": {"a": NaN}}}',
        "a JSON of half a pair": b'{"prompt": "\\ud800", "1": {"class_type": "\\ud800", "inputs": {"a": "\\udfff"}}}',
        "a JSON that is a number": b"1e999",
        "a JSON list": b'[{"url": "http://[::1"}, {"url": 3}, null]',
        "nodes": b'{"nodes": [{"id": "9", "type": 3, "inputs": [null], "widgets_values": [NaN]}], "links": [[1, 2]]}',
        "a TOML of 1,000 levels": b"a = " + b"[" * 1000,
        "a TOML of 5,000 digits": b"width = " + b"9" * 5000 + b"\nheight = 0x" + b"f" * 5000,
        "a TOML of 1e999": b'name = "x"\nwidth = 1e999\nheight = nan\n',
        "a TOML of a NUL": b'name = "\\u0000"\nadult = true\n',
        "a table with a NUL": b"prompt,seed\nx\0,1\n",
        "a table of a long field": b'prompt,seed\n"' + b"x" * 200_000 + b'",1\n',
        "a quote left open": b'prompt,seed\n"x,1\n',
        "a line of a million letters": b"x" * 1_000_000,
        "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
        "a header of levels": struct.pack("<Q", 4000) + b'{"a":' * 800,
        "a header of half a pair": _header(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}') + bytes(4),
        "a picture of 60,000 a side": b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", ihdr)
        + _chunk(b"IDAT", zeros)
        + _chunk(b"IEND", b""),
        "a picture cut off": (EXAMPLES / "00.jpg").read_bytes()[:3000],
        "a GGUF of 2^60 tensors": b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60),
        "a pickle": b"\x80\x02cposix\nsystem\n(S'true'\ntR.",
    }


def _suffixes(name: str) -> tuple[str, ...]:
    """The endings under which a content is tried: what decides how it is read."""
    if "JSON" in name or name == "nodes":
        return (".json", ".jsonl")
    if "TOML" in name:
        return (".toml",)
    if "table" in name or "quote" in name:
        return (".csv",)
    if "header" in name:
        return (".safetensors",)
    if "picture" in name:
        return (".png",)
    if "GGUF" in name:
        return (".gguf",)
    return (".txt", ".png", ".safetensors")


def _header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def calls(words: str, command: click.Command, values: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """A call for each value, given to the arguments and options in turn that take a text, a number or a path."""
    tried = [parameter for parameter in command.params if _takes_value(parameter)]
    for index, (name, value) in enumerate(values.items()):
        parameter = tried[index % len(tried)]
        arguments = dict(RIGHT.get(words, {}))
        options: list[str] = []
        if isinstance(parameter, click.Argument):
            arguments[parameter.name or ""] = (value,)
        else:
            options = [parameter.opts[-1], value]
        arguments[""] = INSTEAD.get(words, {}).get(parameter.name or "", arguments.get("", ()))
        order = [each.name for each in command.params if isinstance(each, click.Argument)]
        typed = [word for key in order for word in arguments.get(key or "", ())]
        label = f"{words}: {parameter.name} is {name}"
        yield label, [*words.split(), *arguments.get("", ()), *options, "--", *typed]


def _takes_value(parameter: click.Parameter) -> bool:
    is_flag = getattr(parameter, "is_flag", False)
    return not is_flag and parameter.name not in FREE and not isinstance(parameter.type, click.Choice)


def plain(words: str) -> list[str]:
    """A call of a command that is right."""
    right = RIGHT.get(words, {})
    typed = [word for key, given in right.items() if key for word in given]
    return [*words.split(), *right.get("", ()), "--", *typed]


SPOILED = (
    "sosie.toml", "characters/mira/character.toml", "recipes/own.toml", "known.json",
    "characters/mira/dataset/captions.jsonl", "characters/mira/dataset/x.png", "characters/mira/dataset/x.txt",
    "characters/mira/references/99.png", "models/x.safetensors", "models/.x.safetensors.origin.json",
    "models/folder/model_index.json", "characters/mira/calibration/x.npz", ".sosie/worker/door.json",
)  # fmt: skip
"""Files of a workspace that commands read by themselves."""

SAID = {
    "sosie.toml": (
        'models = {x = "\\u0000"}',
        f'model_folders = ["{"x" * 5000}"]',
        f'[models]\ny = "{"y/" * 3000}"',
    ),
    "recipes/own.toml": (
        'model = "../../../dev/zero"',
        f'model = "{"x" * 5000}"',
        'model = "\\u001b[31m"',
        "model = 3",
    ),
}
"""What TOML files may say that is TOML, and no good."""

_OWN = """
name = "own"
prompt = "{prompt}"
width = 256
height = 256
[[stages]]
kind = "generate"
family = "sdxl"
"""


def spoilers(name: str, bad: dict[str, Path]) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """What spoils the file `name` of a workspace that holds `mira`: how it is called, and what does it."""
    for kind, path in bad.items():
        yield f"{name} is {kind}", _spoiler(name, path)
    for text in SAID.get(name, ()):
        yield f"{name} says {text[:40]!r}", _texted(name, (_OWN if "own" in name else "") + text + "\n")


def _spoiler(name: str, bad: Path) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file():
            target.unlink()
        if "\0" not in str(bad) and len(bad.name) < 255 and len(str(bad)) < 4000:
            target.symlink_to(bad)

    return spoil


def _texted(name: str, text: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")

    return spoil
