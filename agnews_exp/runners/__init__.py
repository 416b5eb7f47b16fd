"""One runner per family of models, behind one protocol."""
