"""Knowledge graphs: kept, changed, embedded and completed."""
