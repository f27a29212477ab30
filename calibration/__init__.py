"""From a recording to trusted numbers: pure fits, and the motions that make good recordings."""
