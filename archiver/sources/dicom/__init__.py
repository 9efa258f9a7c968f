"""DICOM: the header, plain and compressed frames, deflated files.

What is here takes files apart; `segmented.segments` rebuilds them, frame by frame.
"""
