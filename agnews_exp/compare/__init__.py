"""Looking at many runs from the terminal: leaderboard, difference of two, a running one's log."""
