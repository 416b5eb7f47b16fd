"""Analyses of a run: calibration, errors, explanation, robustness, efficiency; in the run, or of a finished one."""
