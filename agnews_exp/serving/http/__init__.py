"""`agnews serve`: a model behind HTTP."""
