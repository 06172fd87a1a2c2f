"""A plugin for tests, found by its entry point."""
