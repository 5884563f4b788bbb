"""The providers that Sosie brings, each with a fake of its server: `python -m sosie.pods.providers.fake_vast`."""
