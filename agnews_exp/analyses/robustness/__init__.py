"""What happens to a model's answers when texts change, and when they come from somewhere else."""
