"""What a model learns from images: adapters are fitted to a file, archive models are tuned.

``heads`` fits the last layers in seconds, ``rpft`` all of them (CALLIC's rate-guided progressive
passes over all layers); ``archive_model`` tunes a base model on a dataset.
"""
