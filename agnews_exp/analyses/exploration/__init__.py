"""Exploring a corpus before anything is trained on it: figures, tables, and the `agnews eda` command."""
