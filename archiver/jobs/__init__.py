"""A job at scale: settings, plan, shard tasks, workers, events, and the run that joins them.

The way of a night: `plan` scans the tree, `present` says what the archive has of it, `work` packs
tasks into shards on workers of `cluster`, `generation` makes the entries of what is new or gone;
`archive.writer` commits them.  `run`, `verify` and `unpack` are the jobs.
"""
