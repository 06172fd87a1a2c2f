"""Parts of methods on graphs."""
