"""Trains a character's LoRA: dataset, guards, the loop, and the choice of the best checkpoint.

`run.train` is the one way in. What is particular to a family stands in the family's module `training`,
which this package finds by name and imports when a run starts; no other part of Sosie trains.
"""
