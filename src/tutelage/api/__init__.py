"""What a user can do, as functions; the command line calls these and prints."""

from __future__ import annotations

from tutelage.api.running import Finished, look_over, resume, run
from tutelage.api.scoring import score_augmentations

__all__ = ["Finished", "look_over", "resume", "run", "score_augmentations"]
