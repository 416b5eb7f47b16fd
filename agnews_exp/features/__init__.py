"""Turning texts into what a model takes: cleaning, vectorisers, selection, reduction, embeddings."""
