"""Corpora: where rows come from, how they are split and subset, and their caches."""
