"""What a network is trained for: a loss, predictions, and the pictures that show how good they are."""
