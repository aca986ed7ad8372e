"""Using trained models: on images, and in other programs."""
