"""The first author's method, for comparison and for teaching."""
