"""The periodic autoencoder's parts, which need torch."""
