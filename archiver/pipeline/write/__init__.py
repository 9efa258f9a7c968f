"""From files to the objects of a shard.  The way of a file, which passes each room once:

    pack          takes the files in their order; what is known already goes no further
      v
    source_file   stamp: the whole file is read once, for its digest and to see changes;
      v           parse: images, residue (`sources`); what cannot be recorded is opaque
    coder         begins it in each of its alternatives (alternatives)
      v
    planning      draft: key tiles, and which tiles stand for the file;
      |           decide, for all files that wait: orientation, model_choice, adapter, confidence
      v           -> file_plan: frozen, all that coding takes beside samples
    tile_samples  reads the tiles one after the other, with their deltas (delta_bases)
      v
    batch         lets them wait for those of other files
      v
    encode        (plan, tile number, samples) -> payload
      v
    check         decodes it again and compares: nothing else goes on
      v
    queued_file   keeps what is coded until all of the file is; of a large one the shard does
      v
    finish        the smallest coding against the plain bytes: the file is read once more, to see
      |           that it did not change; payloads are appended to the shard
      v
    rows          the record

State is kept by `pack` (files in order), `Coder` (codings that were begun), `Batch`, `QueuedFile`
and its `Coding`s, `DeltaBases` (tiles that were read) alone, each of which changes only itself.
`dataset_sample` stands beside the way: a few tiles of many files, to tune models by.
"""
