"""A model at work: tiles to streams of digits and back, in order, exactly, on any device."""
