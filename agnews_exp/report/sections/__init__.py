"""The report's sections, one module each: stored runs in, blocks out."""
