"""Measures of a corpus, as functions of texts and labels."""
