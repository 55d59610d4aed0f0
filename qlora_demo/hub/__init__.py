"""What leaves this machine: the model card, and the Space that hosts the app."""
