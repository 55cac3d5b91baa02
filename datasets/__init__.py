"""TFDS builders, one folder each; importing this package makes `tfds.load` know them."""

if __name__ != "unet_zoo.datasets":
    raise ImportError("This folder is imported as unet_zoo.datasets")
