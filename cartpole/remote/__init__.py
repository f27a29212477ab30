"""What another process may ask of a daemon: the control socket and the words that pass it."""
