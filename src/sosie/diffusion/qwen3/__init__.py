"""Qwen3 as a text encoder: its tokenizer, its configuration by the shapes of its tensors, and its weights."""
