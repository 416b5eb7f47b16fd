"""Published results, as data that a run can be set beside."""
