"""`agnews study`: the whole study as a list of ordinary commands, run or resumed in order."""
