"""How the names of model files end."""

from __future__ import annotations

SUFFIXES = (".safetensors", ".sft", ".onnx", ".gguf", ".pth", ".pt", ".ckpt", ".bin")
"""Endings of model files, the better before the worse: a name without one means the first that is there."""
