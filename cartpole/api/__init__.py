"""The Python door: what `from cartpole import simulate, Planner, Rig, Session` opens."""
