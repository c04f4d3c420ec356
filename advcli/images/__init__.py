"""Folders of images: what is in them, what each file shows, and images written back.

    scan, labels, folder   a folder (and its labels) -> ImageFolder of ImageRefs
    decode                 one file -> uint8 pixels at the model's input size
    sample, stream         an ImageFolder -> a re-iterable, memory-bounded stream of LoadedImages
    naming, writer         perturbed images -> PNG or .npy files, written whole or not at all
    text                   hostile file and class names made safe for a terminal

Nothing is imported here: `advcli.images.text` must not cost NumPy and Pillow.
"""
