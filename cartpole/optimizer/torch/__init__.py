"""Plans with cost and dynamics written in PyTorch: derivatives by probes, the same iteration."""
