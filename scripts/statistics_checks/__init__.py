"""The simulations of scripts/check_statistics.py, by what the methods compare."""
