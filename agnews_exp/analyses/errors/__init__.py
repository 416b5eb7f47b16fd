"""Where a model errs: confusions, hard examples, groups of rows, label noise, duplicates, slices."""
