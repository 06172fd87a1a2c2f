"""The loop and everything that a run needs around it."""
