"""Training as pure functions: a state goes in, the next one comes out."""
