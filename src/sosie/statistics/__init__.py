"""What experiments may say of what they measured: NumPy alone, no image, no store."""
