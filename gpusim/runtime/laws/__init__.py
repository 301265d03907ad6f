"""How long a kernel or a collective takes on idle resources, and what it asks of them.

Every law is a small formula with physical parameters (`gpusim.spec.laws`), vectorised over rows;
`docs/laws.md` gives the equations and what they reach.
"""
