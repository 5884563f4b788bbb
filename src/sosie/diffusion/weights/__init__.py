"""Weights from files, whatever they are stored as: read tensor by tensor, dequantised or kept packed."""
