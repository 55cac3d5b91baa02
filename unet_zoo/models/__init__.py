"""The variants: one function in one file each; file, function and name agree.

A file here whose name starts with no underscore is a model, see `unet_zoo.registry`.
Nothing is imported before it is asked for.
"""
