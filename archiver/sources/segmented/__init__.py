"""Files made of segments and gaps: how each segment is read as samples, and rebuilt.

``geometry`` cuts a raster into segments; ``find_recipes`` finds for each the encoding that gives its
bytes again (``encodings``, ``orders``, ``runs``); ``segments`` reads windows and rebuilds files.
"""
