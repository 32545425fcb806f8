"""Trains a recurrent network to classify handwritten digits: `python train.py --cell lstm`."""

from rnn_jax.app.command import main, start

__all__ = ["main"]

if __name__ == "__main__":
    start()
