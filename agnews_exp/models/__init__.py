"""Estimators and Lightning modules."""
