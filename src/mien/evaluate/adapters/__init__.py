"""Models that run in a process of their own, each in its own Python: ours, foreign ONNX files, and other packages."""
