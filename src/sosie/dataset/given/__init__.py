"""What people give: pictures in folders as they lie there, and the captions that came with them."""

from sosie.dataset.given.captions import Captions, read_captions
from sosie.dataset.given.layout import Layout, Placed, layout_of

__all__ = ["Captions", "Layout", "Placed", "layout_of", "read_captions"]
