"""TensorBoard, served over a log directory: one experiment, and nothing that would kill the server."""
