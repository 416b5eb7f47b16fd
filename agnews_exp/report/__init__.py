"""`agnews report`: one page, and Markdown, from stored runs alone."""
