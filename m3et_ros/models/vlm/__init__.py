"""Vision-language models: ML-Mamba (2407.19832), EMMA (2410.05938) and MaTVLM (2503.13440)."""
