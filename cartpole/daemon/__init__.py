"""The daemon: wiring, pacing, service; and the same run in virtual time."""
