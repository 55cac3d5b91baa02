"""Zoo entries, one folder each: facts, card and weights; no code."""

if __name__ != "unet_zoo.zoo":
    raise ImportError("This folder is imported as unet_zoo.zoo")
