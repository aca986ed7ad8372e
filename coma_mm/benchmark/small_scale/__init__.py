"""The study of short pre-trainings on small images: what lets the deep stages learn something?"""
