"""Files made of segments and gaps: how each segment is read as samples and rebuilt."""
