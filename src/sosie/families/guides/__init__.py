"""Guides that belong to several families, or to none: one file each, with a `GUIDE`."""
