"""What changes weights: the loop, optimizers and their schedules, checkpoints, several processes at once."""
