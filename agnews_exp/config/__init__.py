"""Configuration: composing, checking, fingerprinting; imports no machine-learning library."""
