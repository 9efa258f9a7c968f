"""From stored objects back to samples and files.

- ``open_archive``: entries, images, regions         - ``restore``: files and their checks
- ``windows``: which tiles a region takes            - ``decode``: payloads to samples, checked
- ``tile_cache``, ``stored_tile``, ``output_files``: what these need
"""
