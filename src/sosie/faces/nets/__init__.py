"""The nets inside installed packages, made into what onnxruntime runs fastest."""
