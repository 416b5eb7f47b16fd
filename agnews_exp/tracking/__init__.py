"""The run record on disk and its mirror in MLflow."""
