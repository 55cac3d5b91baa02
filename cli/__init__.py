"""The command line: the only place that prints or exits."""

if __name__ != "unet_zoo.cli":
    raise ImportError("This folder is imported as unet_zoo.cli")
