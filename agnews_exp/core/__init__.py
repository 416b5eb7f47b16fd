"""The base of every room: errors, files, paths, processes, suggestions, text, and the cache of arrays."""
