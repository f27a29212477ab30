"""The compiled firmware in a simulated ATmega328P."""
