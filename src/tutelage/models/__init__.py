"""Models that recipes name, and what is done with any model: taps, participants, weights, cost, averaging, export."""
