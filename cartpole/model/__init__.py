"""The cart and the pole: parameters, equations of motion, derivatives, discretisation."""
