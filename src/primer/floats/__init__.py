"""The bits of a number: formats as data, exact arithmetic on them, and the same on tensors."""
