"""Exact gradients of a plan: adjoint sweep over a fresh factor, contraction with the parameters."""
