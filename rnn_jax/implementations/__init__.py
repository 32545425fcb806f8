"""The ways to compute an unrolled cell, and the table that chooses one of them."""
