"""What a corpus is like before any model sees it: lengths, words, classes, topics, artefacts."""
