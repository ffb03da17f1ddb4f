"""Operators on Q, K and V. No weights live here: an operator is a room with a slow truth and fast twins."""
