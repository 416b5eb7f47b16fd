"""The faults of scripts/faults.py, by what they disturb."""
