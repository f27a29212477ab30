"""The state from delayed measurements: a filter that rewinds, and the clocks it relies on."""
