"""Real-time model predictive control of a cart-pole rig."""

__version__ = "0.1.0"
