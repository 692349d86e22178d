"""A recipe is a tuple of steps; a run applies it to a store, partition by partition."""
