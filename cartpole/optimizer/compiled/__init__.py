"""Plans by compiled kernels: workspace, stage-by-stage loops, block recursion, Newton's method."""
