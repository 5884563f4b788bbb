"""The store: content-addressed images and a SQLite catalogue of everything that was done."""

from sosie.store.deliveries import Outgoing
from sosie.store.images import pixels_digest
from sosie.store.rows import StoredRender
from sosie.store.store import Store

__all__ = ["Outgoing", "Store", "StoredRender", "pixels_digest"]
