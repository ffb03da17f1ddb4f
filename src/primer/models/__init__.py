"""Models: the parts of `nn` with a vocabulary and a depth. Each file reads in the order of its paper."""
