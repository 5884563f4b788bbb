"""Processes that do a use case's work beside the command: on the cards of other hosts, or a character each."""
