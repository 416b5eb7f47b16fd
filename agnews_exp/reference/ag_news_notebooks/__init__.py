"""Published numbers of seven notebooks on AG News."""
