"""ComfyUI servers and the machines that they run on: reached by address, examined, recorded."""
