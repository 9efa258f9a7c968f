"""The network: its arithmetic on a grid, its files, and what an adapter adds to it."""
