"""The program: `train.py` and `python -m rnn_jax`."""
