"""The live page: a process of its own that knows the daemon only by its control socket."""
