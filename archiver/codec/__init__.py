"""Tiles of samples to bytes and back: learned, classic and JPEG codecs, exact on every machine.

Rooms, top floor first; each imports only from rooms below it (tests/test_layers.py):

    tiles        the smallest of all codecs for each tile, and decoding
    quick        tiles where time is short: JPEG-LS, zstd
    learned      tiles by a model
    tuning/      what a model learns: adapters fitted to files, archive models tuned on datasets
    inference/   a model at work: samples to digits and frequencies, in order, on any device
    transforms/  array to array: delta, scale and offset, orientation, JPEGs in samples; `chain` is
                 the one place that knows what may be inside of what
    jpeg/        JPEG as JPEG: its coefficients, coded by mixing contexts, with a coder of its own
    model/       the network, its arithmetic on a grid, its files; adapters
    reference/   decoders in NumPy: the last word on what a bitstream means
    classic      constant, zstd and JPEG XL           residue    bytes that are not samples
    jpeg_ls      planes and differences of channels
    entropy      digits to bytes, range-coded         ids        on-disk ids

Words (FORMAT.md has all): a *tile* is (height, width, channels) samples; a model splits a sample
into *digits* of 4 bits and predicts the *frequency* of each; pixels of a *group* are coded at once,
the groups run over a tile as a *wavefront*; a *port* is how samples of one kind enter the network,
its *head* how they leave; an *adapter* is low-rank increments of a model for one file; *key tiles*
are JPEG tiles that come first, from which the others' contexts have learned (pipeline/key_tiles).
"""
