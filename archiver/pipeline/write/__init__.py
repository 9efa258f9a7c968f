"""From files to the objects of a shard."""
