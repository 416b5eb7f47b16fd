"""Writing a report: the self-contained page, its script and style, and the Markdown beside it."""
