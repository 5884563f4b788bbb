"""Provenance: what a delivered image says of its making, signed, and how that is checked.

The parts are imported where they are used: `keys` (makes and reads the signing key), `manifest` (the claim and
the writers), `verify` (the report). They load cryptography, Pillow and c2pa only inside calls.
"""
