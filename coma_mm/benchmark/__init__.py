"""Measurements and their tables: the library of tools/benchmark.py, one module per subcommand.

A module has ``add_arguments(parser)`` and ``run(args)``; the first line of its docstring is the help text.
"""
