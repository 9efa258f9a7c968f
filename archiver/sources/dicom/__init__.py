"""DICOM: the header, plain and compressed frames, deflated files."""
