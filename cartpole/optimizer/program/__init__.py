"""Plans for dynamics that a user wrote: the bank, the barrier and the limits of every rig."""
