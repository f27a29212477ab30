"""Several plans alive in every tick, of which the best is flown."""
