"""The store: content-addressed images and a SQLite catalogue of everything that was done."""

from sosie.store.images import pixels_digest
from sosie.store.rows import StoredRender
from sosie.store.store import Store

__all__ = ["Store", "StoredRender", "pixels_digest"]
