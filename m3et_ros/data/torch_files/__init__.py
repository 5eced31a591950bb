"""Weights in files of torch.save (.pt, .pth, .bin) become safetensors, in a process of their own."""
