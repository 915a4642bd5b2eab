"""A synthetic indoor world: furnished rooms, handheld paths, and a batched analytic ray caster in plain torch."""
