"""The native core: the loops that time is spent in, in C, built when the package is installed.

``src/`` holds the C, one topic a file; `build` compiles it, once for every instruction set that is
told apart; `library` loads the best one that this processor has.  Where there is none,
`archiver.codec.inference.tensor_coder` codes with tensors, which takes longer; files whose streams
need loops of the core are refused (`library.required`).
"""
