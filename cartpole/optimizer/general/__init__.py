"""Plans over any program of one's own, with limits on states and inputs, and their gradients."""
