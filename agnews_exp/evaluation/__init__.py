"""Judging predictions: metrics, statistics, calibration, errors."""
