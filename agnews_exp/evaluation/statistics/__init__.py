"""Comparing models: paired tests, bootstrap intervals, tests over folds and seeds, multiplicity, power."""
