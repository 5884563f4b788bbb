"""Decisions, notes, tasks, and the audit that is written from them."""
