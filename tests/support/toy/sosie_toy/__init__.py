"""A toy family as another distribution brings it: the smallest of everything that a family can bring."""

from __future__ import annotations

from sosie_toy.family import FAMILY

__all__ = ["FAMILY"]
