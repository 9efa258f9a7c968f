"""What a model learns from images: adapters are fitted, archive models are tuned."""
