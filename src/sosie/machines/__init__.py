"""Machines: what can be asked for facts, files and bytes, here or by ssh."""
