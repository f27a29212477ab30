"""From pictures to measurements: capture at the edge, a pure tracker inside."""
