"""Engines: from plans to renders. In process (`diffusers`) and pretended (`fake`)."""
