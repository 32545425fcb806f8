"""Tasks of a network: losses, predictions, and the figures and pictures that judge them."""
