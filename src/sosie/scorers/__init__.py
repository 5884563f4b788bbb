"""Scorers: from an image to scores. Each score has a value, or none and why."""
