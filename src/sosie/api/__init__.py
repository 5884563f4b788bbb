"""The use cases. Command line and studio call nothing else.

Each is a function that yields events (`Finding`, `Progress`, results) or returns a noun; the
modules here are imported when used, so that nothing heavy loads before it is needed.
"""
