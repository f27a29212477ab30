"""Configuration: parsed once, strict, bounds beside the fields."""
