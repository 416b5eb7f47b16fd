"""What scripts/make_sample_corpus.py makes its stories of."""
