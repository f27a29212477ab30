"""Recordings: written off the control thread, read back whatever state they are in, replayed."""
