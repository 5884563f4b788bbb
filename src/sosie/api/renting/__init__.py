"""Machines rented, used and ended."""
