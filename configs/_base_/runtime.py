"""What every run adds to its library's own default_runtime."""
custom_imports = dict(imports=['coma_mm'], allow_failed_imports=False)
