"""Experiments: recipes that differ in what is asked about, drawn for the same prompts and seeds."""
