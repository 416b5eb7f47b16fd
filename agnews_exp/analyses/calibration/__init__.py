"""Calibration of a run's probabilities, before and after."""
