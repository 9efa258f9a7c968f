"""From stored objects back to samples and files."""
