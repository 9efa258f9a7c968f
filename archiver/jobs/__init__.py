"""A job at scale: settings, plan, shard tasks, workers, events, and the run that joins them."""
