"""SDXL's pipelines made fast: CUDA graphs, constant context, compiled blocks. Nothing else depends on it."""
