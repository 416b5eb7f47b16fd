"""Explaining a classifier's answers: one form for all methods, and a score of how faithful each of them is."""
