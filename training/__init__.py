"""How a network is trained: losses, loop, checkpoints, weights."""
