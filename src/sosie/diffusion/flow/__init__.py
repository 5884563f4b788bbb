"""Drawing with flow models: noise levels, samplers and noise, each as ComfyUI defines them.

A flow model is trained on x = (1 - sigma) x0 + sigma noise and predicts the velocity noise - x0. Its probability
flow is dx / dsigma = (x - x0) / sigma, that of Karras et al. 2022 too, so their samplers run on it unchanged.
"""
