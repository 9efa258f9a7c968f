"""What a tile is turned into before a codec takes it: array to array, without loss."""
