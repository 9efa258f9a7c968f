"""Files made of segments and gaps: how each segment is read as samples, and rebuilt.

``geometry`` cuts a raster into segments; ``find_recipes`` finds for each the encoding that rebuilds
its bytes (``encodings``, ``orders``, ``runs``); ``segments`` reads windows and rebuilds files.
"""
