"""Parts of distillation methods: what several share, and what would make one too long to read."""
