"""ComfyUI as an engine: Sosie's plans on the user's own servers, and a fake server for tests."""
