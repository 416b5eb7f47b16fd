"""Configuration: composing, checking, fingerprinting; the lowest layer, imports no ML library."""
