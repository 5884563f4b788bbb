"""What families that draw in this process share: canvas, noise, samplers, VAE, LoRAs, memory, the face pass."""
