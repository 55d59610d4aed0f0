"""What costs minutes and is no test: speed and memory, and the training of the shipped adapter."""
