"""Published results of other people's work, as data that own runs are set beside.

A reference is a folder: ``source.yaml`` says who published what about which split, ``results.csv`` holds the numbers,
and where wanted ``measures.csv`` holds numbers about the corpus and ``claims.csv`` sentences that are judged. The
scalar ``reference`` of the configuration names one that ships or a folder; by default there is none.
"""
