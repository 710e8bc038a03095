"""Making a model: recipe, net, augmentation, loop, export. Needs the extra ``train``."""
