"""MNIST and its siblings, from published archives or from folders of tensorflow-datasets."""
