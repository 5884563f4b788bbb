"""Modules that several families have: text encoders, UNets, and transformers with two streams."""
