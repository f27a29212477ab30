"""The simulated rig: plant, rendered pictures, emulated boards behind pseudo-terminals."""
