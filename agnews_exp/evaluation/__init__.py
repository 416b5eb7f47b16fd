"""Judging predictions: metrics, statistics, calibration, drift, efficiency."""
