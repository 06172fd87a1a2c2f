"""Studies, one a method: each `study()` measures again what a record in raw/ says."""
