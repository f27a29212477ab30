"""Is this machine, and is this rig, fit to run; what to do if not."""
